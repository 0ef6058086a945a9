"""The report's tables as LaTeX, to be taken into a paper with \\input."""

from __future__ import annotations

import re

from skinaug.report.tables import Cell, Table

MOST_ROWS = 40  # that fit a page; longer tables break over pages
ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": r"$-$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "\u00a0": "~",
    "\u200b": "",
    "\n": " ",
}


LIGATURE = re.compile(
    r"(?<=[-–—])(?=[-–—])|(?<=')(?=')|(?<=[`!?])(?=`)"
)  # places where TeX makes one character of two


def latex(table: Table) -> str:
    """A tabular in the style of booktabs, or a longtable of many rows; intervals stand behind their values in small."""
    columns = "l" * table.words + "r" * (len(table.header) - table.words)
    long = len(table.rows) > MOST_ROWS
    kind = "longtable" if long else "tabular"
    head = [*_groups(table), _line([escape(name) for name in table.header]), r"\midrule"]
    lines = [
        rf"% \usepackage[T1]{{fontenc}} \usepackage{{booktabs{',longtable' * long}}}",
        rf"\begin{{{kind}}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        *head,
        *([r"\endhead"] if long else []),
        *(_line([_cell(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        rf"\end{{{kind}}}",
    ]
    return "\n".join(lines) + "\n"


def _groups(table: Table) -> list[str]:
    """Headings over the header, each with a rule as wide as its columns."""
    if not table.groups:
        return []
    cells, rules, column = [], [], 1
    for name, width in table.groups:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" if name or width > 1 else "")
        rules += [rf"\cmidrule(lr){{{column}-{column + width - 1}}}"] * bool(name)
        column += width
    return [_line(cells), "".join(rules)]


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    return escape(cell.text) + (rf" {{\scriptsize ({escape(cell.note)})}}" if cell.note else "")


def escape(text: str) -> str:
    """Text that LaTeX prints as it is: two characters do not become another one, and a bracket that would start a row is no
    option of the line break before it."""
    parts = [
        "".join(ESCAPES.get(character, character if character.isprintable() else " ") for character in part)
        for part in LIGATURE.split(text)
    ]
    escaped = "{}".join(parts)
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith(("[", "*")) else escaped
