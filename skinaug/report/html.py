"""One HTML file that needs nothing else: styles, script, figures and pictures are inside, and all text is escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATE, SCRIPT = "report.html.j2", "report.js"
MOST_PRINTED = 30  # rows of a table; on a screen, more of them scroll


def render(content: Mapping[str, Any], template: str = TEMPLATE) -> str:
    """Fill a template. Values are escaped, but for those under `figures`, which are SVG made here.

    The page's policy lets a browser run its own script, by the hash of it, and no other.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = {name: [Markup(svg) for svg in svgs] for name, svgs in content["figures"].items()}
    script = (Path(__file__).parent / SCRIPT).read_text(encoding="utf-8")
    own = {
        "figures": figures,
        "most_printed": MOST_PRINTED,
        "script": Markup(script),
        "script_hash": b64encode(sha256(script.encode()).digest()).decode(),
    }
    return environment.get_template(template).render({**content, **own})
