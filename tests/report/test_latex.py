"""LaTeX tables: any text prints as it is, rows have as many cells as the header, and what is opened is closed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinaug.report.latex import ESCAPES, MOST_ROWS, escape, latex
from skinaug.report.tables import Cell, Table, table

PLAIN = {command: character for character, command in ESCAPES.items() if command.strip()} | {"{}": ""}
LIGATURES = ("--", "''", "``", "!`", "?`")  # that TeX prints as one character
WORDS = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=12)


def read(text: str) -> str:
    """What TeX prints of escaped text: commands turned back, longest first, groups opened."""
    commands = "|".join(re.escape(command) for command in sorted(PLAIN, key=len, reverse=True))
    opened = re.sub(r"^\{([\[*])\}", r"\1", text)
    return re.sub(commands, lambda found: PLAIN[found[0]], opened)


@given(WORDS)
def test_text_prints_as_it_is(text: str):
    printed = escape(text)
    assert read(printed) == text
    bare = re.sub("|".join(re.escape(c) for c in sorted(PLAIN, key=len, reverse=True)), "", printed)
    assert not set(bare.replace("{[}", "").replace("{*}", "")) & set('&%$#_^~\\{}<>|"')


@pytest.mark.parametrize("text", ["--", "---", "a--b", "''", "``", "!`", "?`"])
def test_two_characters_do_not_become_another(text: str):
    printed = escape(text)
    assert not [pair for pair in LIGATURES if pair in printed]
    assert printed.replace("{}", "") == text


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4), st.booleans())
def test_rows_have_as_many_cells_as_the_header(rows: list[tuple[str, str, str]], grouped: bool):
    groups = [("", 1), ("50 % & more", 2)] if grouped else []
    cells = [[Cell(a), Cell(b, c), Cell(c)] for a, b, c in rows]
    lines = latex(Table(["Arm", "a_b", "c & d"], cells, 1, groups)).splitlines()
    body = [line for line in lines if line.endswith(r" \\")]
    assert len(body) == len(rows) + 1 + grouped
    for line in body[grouped:]:
        assert len(re.findall(r"(?<!\\)&", line)) == 2
    text = re.sub(r"\\[\\{}%]", "", "\n".join(lines[1:]))
    assert text.count("{") == text.count("}")
    assert lines[1] == r"\begin{tabular}{@{}lrr@{}}"
    assert not any(line.startswith(("[", "*")) for line in lines), "an option of the line break before it"


def test_characters_that_end_a_line_are_spaces():
    assert escape("a\r\nb\x00\x1b\u2028c") == "a  b   c"


def test_headings_span_their_columns():
    shown = Table(["", "a", "b", "c"], [[Cell("x")] * 4], 1, [("", 1), ("One", 2), ("Two", 1)])
    lines = latex(shown).splitlines()
    assert r" & \multicolumn{2}{c}{One} & \multicolumn{1}{c}{Two} \\" in lines
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-4}" in lines


def test_many_rows_break_over_pages():
    text = latex(table(["Arm", "Top-1"], [["a", 1.0]] * (MOST_ROWS + 1)))
    assert text.count("longtable") == 3
    assert text.index(r"\endhead") < text.index("a & 1.0")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no TeX on this machine")
def test_tables_compile(tmp_path: Path):
    odd = "".join(ESCAPES) + "[x] é"
    for rows in (3, MOST_ROWS + 5):
        shown = latex(Table(["Arm", odd], [[Cell(odd), Cell("−1.2", "± 3")]] * rows, 1, [("", 1), (odd, 1)]))
        page = (
            r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,longtable}\begin{document}"
        )
        (tmp_path / "page.tex").write_text(f"{page}\n{shown}\\end{{document}}\n")
        command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "page.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
