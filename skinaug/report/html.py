"""One HTML file that needs nothing else: styles, figures and pictures are inside, and all text is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATE = "report.html.j2"


def render(content: Mapping[str, Any]) -> str:
    """Fill the template. Values are escaped, but for those under `figures`, which are SVG made here."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = {name: [Markup(svg) for svg in svgs] for name, svgs in content["figures"].items()}
    return environment.get_template(TEMPLATE).render({**content, "figures": figures})
