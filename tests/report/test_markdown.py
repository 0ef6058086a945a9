"""Markdown shows any text as it is."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skinaug.report.markdown import escape, markdown_table
from skinaug.report.tables import table

markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
READER = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("#*_-+`<>&[]()!|~\\.1= \n\r"),
    max_size=15,
)


def words(text: str) -> str:
    return " ".join(text.split())


@given(TEXTS)
@example("# a heading")
@example("---")
@example("1. one")
@example("[link](javascript:alert(1))")
@example("![x](http://example.org/x.png)")
@example("<script>alert(1)</script>&lt;b&gt;")
@example("a|b\n- c")
@example("~~gone~~ **bold** `code`")
def test_text_shows_as_it_is(text: str):
    for before in ("", "- ", "# "):
        html = READER.render(before + escape(text))
        tags = set(re.findall(r"<(\w+)", html)) - {"p", "ul", "li", "h1"}
        assert not tags
        shown = unescape(re.sub(r"</?(p|ul|li|h1)>", "", html))
        printed = "".join(letter if letter.isprintable() else " " for letter in text)
        assert words(shown) == words(printed)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_a_table_has_the_cells_that_it_was_given(rows: list[tuple[str, str]]):
    html = READER.render(markdown_table(table(["a", "b"], [list(row) for row in rows], words=2)))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)
    assert len(cells) == 2 * len(rows)
    assert not set(re.findall(r"<(\w+)", html)) - {"table", "thead", "tbody", "tr", "th", "td"}
