"""The directive `findings`: what each script of findings/ says at its head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).parents[2] / "findings"


def head(file: Path) -> tuple[str, str, str]:
    """What was found, what was seen and how to run it, of the comment at a script's head."""
    lines = file.read_text().splitlines()[1:]
    told = []
    for line in lines:
        if not line.startswith("#"):
            break
        told.append(line.removeprefix("#").strip())
    text, _, usage = " ".join(told).partition("Usage: ")
    found, _, seen = text.partition("Seen")
    if not (found and seen and usage):
        raise ValueError(f"{file} does not begin with what it finds, `Seen...` and `Usage: ...`")
    return found.strip(), f"Seen{seen}".strip(), usage.strip()


class Findings(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        sections = []
        for file in sorted(FOLDER.glob("*.sh")):
            self.env.note_dependency(str(file))
            found, seen, usage = head(file)
            section = nodes.section("", ids=[file.stem.replace("_", "-")])
            section += nodes.title("", file.stem.replace("_", " "))
            section += [nodes.paragraph("", text) for text in (found, seen)]
            section += nodes.literal_block(usage, usage, language="text")
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("findings", Findings)
    return {"parallel_read_safe": True}
