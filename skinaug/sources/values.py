"""Values that other people's tables hold in forms of their own: one-hot columns, lists and weights as text, words to be mapped.

A value is told by a column's name, by several names, of which the first that has a value in a row is taken, or by a map:

    {column: dx, names: {mel: malignant, nv: benign}}     words to ours; others stay
    {column: diagnosis, leave_out: [unknown]}             rows with these words are left out
    {column: image, without: _downsampled}                text without an ending
    {column: lesion_id, optional: true}                   empty where the tables lack the column
    {one_hot: [MEL, NV], names: {...}, leave_out: [...]}  the column that is 1 or YES
    {list: conditions}                                    the one entry of a list, as text in Python's or JSON's form
    {weights: conditions}                                 the entry of the largest weight of a map, as text
    {either: [dx, {one_hot: [...]}]}                      the first of several values that a row has
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from skinaug.errors import InputError
from skinaug.sources.labels import NO_LABEL

Value = str | Sequence[str] | Mapping[str, Any]
FORMS = ("column", "one_hot", "list", "weights", "either")
TRUE_WORDS = ("true", "yes", "y")
CHANGES = ("names", "leave_out", "without", "optional")


def columns_of(value: Value) -> list[str]:
    """The columns that a value may be read from."""
    if not isinstance(value, Mapping):
        return [value] if isinstance(value, str) else list(value)
    if "either" in value:
        return [name for one in value["either"] for name in columns_of(one)]
    return columns_of(next(value[form] for form in FORMS if form in value))


def is_optional(value: Value) -> bool:
    """Whether tables may lack the columns of a value."""
    return isinstance(value, Mapping) and bool(value.get("optional"))


def check_value(value: Value, option: str) -> None:
    """Raise an InputError of a value that is told in no known form. option: its name, for the message."""
    if not isinstance(value, Mapping):
        return
    for one in value.get("either", ()):
        check_value(one, option)
    if len(value.keys() & set(FORMS)) != 1 or not value.keys() <= {*FORMS, *CHANGES}:
        raise InputError(
            f"{option}={dict(value)}: tell one of {', '.join(FORMS)}, and what to do with its words by {', '.join(CHANGES)}."
        )


def read_value(table: pl.DataFrame, value: Value, least_weight: float = 0.0) -> pl.DataFrame:
    """A value of each row: `value`, text or null, and `left_out`, why a row has none that could be a label, or null.

    Args:
        table: all text; empty values are null.
        value: as the module tells; columns that the table lacks are empty.
        least_weight: of {weights: ...}: the smallest share that the largest weight may have of their sum.
    """
    if not isinstance(value, Mapping):
        return _told(_first(table, value))
    if "either" in value:
        parts = [read_value(table, one, least_weight) for one in value["either"]]
        found = pl.DataFrame(
            {f"{name}{k}": part[name] for k, part in enumerate(parts) for name in part.columns}
        )
        word = pl.coalesce(f"value{k}" for k in range(len(parts)))
        told = found.select(value=word, left_out=pl.when(word.is_null()).then(f"left_out{len(parts) - 1}"))
    elif "one_hot" in value:
        told = _one_hot(table, value["one_hot"])
    elif "column" in value:
        told = _told(_first(table, value["column"]))
    else:
        form = "list" if "list" in value else "weights"
        told = _parsed(_first(table, value[form]), least_weight)
    word = pl.col("value")
    if "without" in value:
        word = word.str.strip_suffix(value["without"])
    unwanted = word.is_in([str(name) for name in value.get("leave_out", ())])
    names = {str(theirs): str(ours) for theirs, ours in value.get("names", {}).items()}
    return told.with_columns(
        value=pl.when(~unwanted).then(word.replace(names)),
        left_out=pl.when(unwanted).then(pl.format("label not taken: {}", word)).otherwise("left_out"),
    )


def _first(table: pl.DataFrame, names: str | Sequence[str]) -> pl.Series:
    """The first of some columns that has a value, in each row; null where none has."""
    known = [name for name in ([names] if isinstance(names, str) else names) if name in table.columns]
    empty = pl.lit(None, pl.String)
    return table.select(value=pl.coalesce(*known, empty) if known else pl.repeat(empty, pl.len())).to_series()


def _told(column: pl.Series) -> pl.DataFrame:
    missing = column.str.to_lowercase().is_in(NO_LABEL).fill_null(True)
    word = pl.when(~pl.col("missing")).then("value")
    table = pl.DataFrame({"value": column, "missing": missing})
    return table.select(value=word, left_out=pl.when("missing").then(pl.lit("no label")))


def _one_hot(table: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    hot = {
        name: (pl.col(name).cast(pl.Float64, strict=False) > 0.5)
        | pl.col(name).str.to_lowercase().is_in(TRUE_WORDS)
        for name in names
        if name in table.columns
    }
    if not hot:
        return _told(_first(table, ()))
    chosen = pl.concat_list(
        pl.when(is_hot).then(pl.lit(name)) for name, is_hot in hot.items()
    ).list.drop_nulls()
    count, several = pl.col("chosen").list.len(), pl.col("chosen").list.join(", ")
    return table.select(chosen=chosen).select(
        value=pl.when(count == 1).then(several),
        left_out=pl.when(count == 0)
        .then(pl.lit("no label"))
        .when(count > 1)
        .then(pl.format("several labels: {}", several)),
    )


def _parsed(column: pl.Series, least_weight: float) -> pl.DataFrame:
    """Lists and weights; each text is parsed once, however many rows hold it."""
    told = {text: _name_of(text, least_weight) for text in column.unique().to_list()}
    rows = [told[text] for text in column.to_list()]
    schema = {"value": pl.String, "left_out": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _name_of(text: str | None, least_weight: float) -> tuple[str | None, str | None]:
    """The one name in a list, or that of the largest weight; or why there is none."""
    entries = _literal(text) if text else []
    if isinstance(entries, list):
        weights = {str(name): 1.0 for name in entries}
        least_weight = 0.0
    elif isinstance(entries, dict) and all(isinstance(weight, (int, float)) for weight in entries.values()):
        weights = {str(name): float(weight) for name, weight in entries.items()}
    else:
        return None, f"label cannot be read: {text}"
    if not weights or max(weights.values()) <= 0:
        return None, "no label"
    first = max(weights.values())
    names = [name for name, weight in weights.items() if weight == first]
    share = first / sum(weights.values())
    if len(names) > 1:
        return None, f"several labels: {', '.join(names)}"
    if share < least_weight:
        return None, f"label of low weight: {names[0]} has {share:.2f} of 1"
    return names[0], None


def _literal(text: str) -> Any:
    """A list or map as text, in Python's or JSON's form; None where it is neither."""
    for parse in (ast.literal_eval, json.loads):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None
