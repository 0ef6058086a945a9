"""Labels of other people's tables: rows that have none, and labels that stand in forms of their own."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import polars as pl

from skinaug.errors import InputError, listing, plural

NO_LABEL = ("", "nan", "<na>", "na", "n/a", "null")  # not "unknown": data sets have a class of that name
LEAST_SHARE = (
    0.5  # of rows with exactly one class set, where columns are taken for one-hot: others may have no label
)
BINARY = ("0", "1", "0.0", "1.0", "true", "false", "yes", "no")
SET = ("1", "1.0", "true", "yes")
LISTS = {
    "list": "list",
    "tuple": "list",
    "set": "list",
    "dict": "weights",
}  # type of a literal: its form in `values`


def labelled(table: pl.DataFrame, on_bad: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that have a path and a label; and `path, reason` of the others, which are named by their number where they lack a
    path.

    on_bad: "drop", or "fail", which refuses such rows.

    Raises:
        InputError: there are such rows and `on_bad` is "fail", or there are no others.
    """
    path = pl.col("path").replace("", None)
    reason = (
        pl.when(path.is_null())
        .then(pl.lit("no path"))
        .when(pl.col("label").is_null())
        .then(pl.lit("no label"))
    )
    told = table.with_row_index("place", offset=1).select("place", path=path, reason=reason)
    bad = told.filter(pl.col("reason").is_not_null())
    row = pl.format("row {}", "place")
    if bad.height and (on_bad != "drop" or bad.height == table.height):
        lines = bad.select(
            pl.format("{}: {}", pl.concat_str(row, "path", separator=", ", ignore_nulls=True), "reason")
        )
        advice = "Complete or remove them" + ", or leave them out with on_bad=drop" * (
            bad.height < table.height
        )
        raise InputError(
            f"{plural(bad.height, 'row of the table has', 'rows of the table have')} no path or no label:\n{listing(lines.to_series())}\n{advice}; a class may not be "
            f"named {', '.join(NO_LABEL[1:])}."
        )
    return table.filter(told["reason"].is_null()), bad.select(pl.coalesce("path", row), "reason")


def refuse_lists(labels: pl.Series, column: str) -> None:
    """Raise an InputError with the option to set, where most of a column's labels are lists or maps as text.

    column: its name in the file.
    """
    kinds = [kind for text in labels.drop_nulls().unique() if (kind := _kind(text))]
    if 2 * len(kinds) <= labels.drop_nulls().n_unique() or not kinds:
        return
    form = max(set(kinds), key=kinds.count)
    what = {"list": "lists", "weights": "maps of names to weights"}[form]
    raise InputError(
        f"The labels in {column} are {what}, such as {labels.drop_nulls()[0]}. To take the one name of each"
        f"{', the one of the largest weight' * (form == 'weights')}, set\n"
        f"  'dataset.source.columns.label={{{form}: {word(column)}}}'\nRows with several or none count as without a label."
    )


def one_hot_option(table: pl.DataFrame) -> str:
    """What to set where a table's labels stand in one-hot columns, as a sentence; "" where none look like that.

    These are the longest run of columns that are 0 or 1 throughout and of which no row has two set, and most rows one.
    """
    runs: list[list[str]] = [[]]
    for name in table.columns:
        column = table[name].str.strip_chars().str.to_lowercase()
        if not column.len() or not column.is_in(BINARY).fill_null(False).all():
            runs.append([])
            continue
        if _set(table, [*runs[-1], name]).max() not in (0, 1):
            runs.append([])
        runs[-1].append(name)
    names = max(runs, key=len)
    if len(names) < 2 or (_set(table, names) == 1).mean() < LEAST_SHARE:  # type: ignore[operator]
        return ""
    return f"Labels seem to stand in one-hot columns: set\n  'dataset.source.columns.label={{one_hot: [{', '.join(map(word, names))}]}}'"


def word(name: str) -> str:
    """A name as an option takes it for text: in quotes where it is a number, a truth value, or has other signs than ASCII letters."""
    plain = re.fullmatch(r"[A-Za-z_][\w-]*", name, re.ASCII) and name.lower() not in (
        "true",
        "false",
        "null",
        "nan",
        "inf",
    )
    return name if plain else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _set(table: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    """How many of some columns are set in each row."""
    marks = (pl.col(name).str.strip_chars().str.to_lowercase().is_in(SET).cast(pl.Int32) for name in names)
    return table.select(count=pl.sum_horizontal(marks))["count"]


def _kind(text: str) -> str | None:
    if text[:1] not in "[({":
        return None
    try:
        return LISTS.get(type(ast.literal_eval(text)).__name__)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
