"""The site: `make docs`. Built without a network; a broken link or reference fails it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "skinaug"
author = "the authors of skinaug"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "options", "findings"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = "skinaug"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
exclude_patterns = ["extensions"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "literal"  # a docstring's `word` is code
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", ".*")
]  # what docstrings call types is prose: "pl.DataFrame", "one row an image"


def bring_studies() -> None:
    """The pages of experiments/, which stand beside what they tell of, as pages of the site."""
    root = Path(__file__).parents[1]
    pages = {file.name: file.read_text() for file in (root / "experiments").glob("*.md")}
    place = root / "docs/studies"
    place.mkdir(exist_ok=True)
    for old in place.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        if (
            not (place / name).is_file() or (place / name).read_text() != text
        ):  # else a build would read it anew
            (place / name).write_text(text)


bring_studies()
