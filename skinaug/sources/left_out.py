"""Rows that a source lists but leaves out, each with its reason, so that every stage that reads it counts them."""

from __future__ import annotations

import polars as pl

LEFT_OUT = (
    "left_out"  # a source's column of reasons, as `why` or `why: details`; null for the rows that are taken
)


def taken_and_left(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A source's rows that are taken, without the column LEFT_OUT; and `path, reason` of the others."""
    if LEFT_OUT not in table.columns:
        return table, pl.DataFrame(schema={"path": pl.String, "reason": pl.String})
    left = pl.col(LEFT_OUT).is_not_null()
    return table.filter(~left).drop(LEFT_OUT), table.filter(left).select("path", reason=LEFT_OUT)
