"""What filters share in `keep`: checks of what users set, and the words for what goes."""

from __future__ import annotations

import polars as pl

from skinaug.errors import InputError


def check_share(filter_: str, name: str, value: float) -> None:
    """Refuse a threshold outside [0, 1]."""
    if not 0 <= value <= 1:
        raise InputError(f"filter.{filter_}.keep.{name}={value} is no share: give a value in [0, 1].")


def check_count(filter_: str, name: str, value: int | None) -> None:
    """Refuse a number of images that is no whole number from 0 on; None is no limit."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InputError(f"filter.{filter_}.keep.{name}={value!r} is no number of images: give 0 or more.")


def because(keep: pl.Series, reason: str) -> pl.DataFrame:
    """A mask as the table that `Filter.keep` may return: what goes has one reason."""
    table = pl.DataFrame({"keep": keep})
    return table.with_columns(reason=pl.when(~pl.col("keep")).then(pl.lit(reason)))
