"""What cards of models and data have in common: tables, licences and digests, as model hubs show and file them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from skinaug.manifest import Manifest

CARD = "README.md"
# Names of licences as the hub knows them; any other is written out.
LICENCES = {
    "Apache-2.0": "apache-2.0",
    "CC0": "cc0-1.0",
    "CreativeML OpenRAIL-M": "creativeml-openrail-m",
    "CreativeML Open RAIL++-M": "openrail++",
    "MIT": "mit",
}


def licence_fields(licence: str) -> dict[str, Any]:
    """A card's fields of a licence: the hub's name for it, or "other" and a name of its own."""
    known = LICENCES.get(licence)
    return (
        {"license": known} if known else {"license": "other", "license_name": slug(licence or "not stated")}
    )


def data_digest(manifest: Manifest) -> str:
    """SHA-256 of the images' SHA-256, sorted: the same whatever their names, order and place."""
    return hashlib.sha256("\n".join(sorted(manifest.table["sha256"])).encode()).hexdigest()


def table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """A Markdown table; an empty value is `none`, and what is not set as code shows as it is."""
    cells = [["none" if value is None else _cell(value) for value in row] for row in rows]
    lines = [header, ("---",) * len(header), *cells]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines)


def code(text: str) -> Markup:
    """Text set as code in Markdown, whatever back-ticks it has."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return Markup(f"{'`' * (longest + 1)} {text} {'`' * (longest + 1)}" if longest else f"`{text}`")


def _cell(value: object) -> str:
    text = str(value)
    if not isinstance(value, Markup):
        text = re.sub(r"([\\`*_\[\]])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("|", "\\|")


def slug(text: str) -> str:
    """Lower-case words and hyphens."""
    return re.sub("[^a-z0-9.]+", "-", text.lower()).strip("-")
