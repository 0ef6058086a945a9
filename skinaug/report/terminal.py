"""The report in the terminal: its first tables, for 80 columns."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from skinaug.report import failures, further, tables
from skinaug.report.tables import Table

MOST_ARM_COLUMNS = 12  # that an arm's name may claim: the scores must fit beside it in 80
TERMINAL = ("top1", "balanced_accuracy", "auroc")  # what 80 columns have room for


def print_report(out: Path) -> None:
    """Print the arms and the differences of a finished report, and where its HTML lies."""
    arms, differences = (
        pl.read_csv(out / f"{name}.csv", infer_schema_length=None) for name in ("arms", "differences")
    )
    console = Console()
    title = "Scores on real test images, %, with 95 % interval"
    console.print(terminal_table(tables.arms_table(arms, TERMINAL), title))
    if differences.height:
        title = f"Difference to {differences['baseline'][0]} in points, paired by patient and seed, adjusted"
        console.print(terminal_table(tables.differences_table(differences, TERMINAL[:2]), title))
    if (out / "further.csv").is_file():
        frame = pl.read_csv(out / "further.csv", infer_schema_length=None)
        for name, told in further.shown(frame, TERMINAL[:1]).items():
            console.print(terminal_table(told["scores"], f"On the test set {name}, %, with 95 % interval"))
            if told["gains"]:
                title = "Difference in points, and what of that on the own test carries over"
                console.print(terminal_table(told["gains"], title))
    if (out / "paired.csv").is_file():
        paired = pl.read_csv(out / "paired.csv", infer_schema_length=None)
        console.print(
            terminal_table(
                tables.paired_table(paired, ("top1", "balanced_accuracy")),
                "Pair by pair, in points, adjusted",
            )
        )
    if (out / "failures.csv").is_file():
        schema = {"reason": pl.String, "arm": pl.String}
        frame = pl.read_csv(out / "failures.csv", schema_overrides=schema)
        print_failures(console, failures.told(frame))
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True, highlight=False)


def print_failures(console: Console, told: failures.Told) -> None:
    """Print which jobs have left no run, and why: a line an arm and reason."""
    console.print(f"[red]{escape(told.headline)}[/red]", highlight=False, soft_wrap=True)
    for arm, rest in told.lines:
        console.print(f"  [bold]{escape(arm)}[/bold]{escape(rest)}", highlight=False, soft_wrap=True)


def terminal_table(table: Table, title: str) -> RichTable:
    """A table for 80 columns or more."""
    shown = RichTable(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for i, name in enumerate(table.header):
        longest = max((len(row[0].text) for row in table.rows), default=0)
        width = (
            min(longest, MOST_ARM_COLUMNS) if i == 0 else None
        )  # a name in one line reads better than a wide column
        shown.add_column(
            name, justify="left" if i < table.words else "right", overflow="fold", min_width=width
        )
    for row in table.rows:
        texts = [escape(cell.text) for cell in row]  # an arm may be called filter=[ensemble]
        shown.add_row(
            *(
                f"{text}\n[dim]{cell.note}[/dim]" if cell.note else text
                for text, cell in zip(texts, row, strict=True)
            )
        )
    return shown
