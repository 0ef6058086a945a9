"""Folds over patients: every patient is in the test of one fold, and in training or validation of the others."""

from __future__ import annotations

from typing import Any

import polars as pl

from skinaug.dataset.splits import assign_splits
from skinaug.errors import InputError


def check_folds(folds: Any, fold: Any, val_fraction: float, reserve: Any = None) -> None:
    """Refuse folds that there cannot be; None of `folds` is none.

    Raises:
        InputError: fewer than two folds, no such fold, no share left for training, or a reserve that is no share.
    """
    if reserve is not None and not (isinstance(reserve, float) and 0 < reserve < 1):
        raise InputError(
            f"folds.reserve={reserve}: it is a share of the photographs, above 0 and below 1, such as 0.25."
        )
    if folds is None:
        if fold is not None or reserve is not None:
            asked = f"dataset.fold={fold}" if fold is not None else f"dataset.reserve={reserve}"
            raise InputError(f"{asked} is of several folds: say of how many, as in folds=5.")
        return
    if not _is_count(folds) or folds < 2:
        raise InputError(f"folds={folds}: it is a whole number of at least 2, or null for none.")
    if not _is_count(fold) or fold >= folds:
        raise InputError(
            f"folds={folds}, dataset.fold={fold}: a sweep (-m) runs all folds; a single job takes one of them, dataset.fold=0 to "
            f"dataset.fold={folds - 1}."
        )
    if not 0 <= val_fraction < 1 - 1 / folds:
        raise InputError(
            f"dataset.val_fraction={val_fraction}: with folds={folds} the test has {1 / folds:.2f} of the images, so validation can have "
            f"at least 0 and less than {1 - 1 / folds:.2f}."
        )


def deal_folds(
    table: pl.DataFrame,
    folds: int,
    fold: int | None,
    val_fraction: float,
    seed: int,
    reserve: float | None = None,
) -> pl.DataFrame:
    """`table` with the column `split`: fold number `fold` of `folds` is the test, and validation is taken out of the rest.

    Folds are dealt as splits are (`splits.assign_splits`): whole groups, each class with its share in every fold. Which group is in
    which fold depends on the seed and the images alone, so that the tests of all folds are a partition of the groups.

    Args:
        table: `label` and `group_id`.
        fold: None: no fold's split, but that of a generator which serves all folds: the reserve is its training, all folds its test.
        val_fraction: share of all images.
        reserve: share of all images, of groups that are in the training of every fold and in the test of none: what learns from them
            alone has seen no test patient of any fold. None: every group is in a fold.

    Raises:
        InputError: a class has too few groups.
    """
    if reserve is not None:
        shares = {"reserve": reserve, "folds": 1 - reserve}
        where = pl.Series(_dealt(table, shares, seed), dtype=pl.String)
        taught, table = table.filter(where == "reserve"), table.filter(where == "folds")
        parts = [taught.with_columns(split=pl.lit("train"))]
        if fold is None:
            return pl.concat([*parts, table.with_columns(split=pl.lit("test"))])
        val_fraction /= 1 - reserve
        return pl.concat([*parts, deal_folds(table, folds, fold, val_fraction, seed)])
    assert fold is not None
    names = [f"fold {number}" for number in range(folds)]
    dealt = pl.Series(_dealt(table, dict.fromkeys(names, 1 / folds), seed), dtype=pl.String)
    test, rest = table.filter(dealt == names[fold]), table.filter(dealt != names[fold])
    share = val_fraction / (1 - 1 / folds)
    shares = {"train": 1 - share} | ({"val": share} if share else {})
    return pl.concat(
        [
            test.with_columns(split=pl.lit("test")),
            rest.with_columns(split=pl.Series(_dealt(rest, shares, seed), dtype=pl.String)),
        ]
    )


def without_own_splits(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The rows without the splits that the data have of their own, and a sentence that tells of them."""
    if "split" not in table.columns:
        return table, []
    own = int(table["split"].is_not_null().sum())
    told = (
        [f"The data's own splits of {own:,} images are not used: folds are dealt over all patients."]
        if own
        else []
    )
    return table.drop("split"), told


def _dealt(table: pl.DataFrame, shares: dict[str, float], seed: int) -> list[str]:
    return assign_splits(table["label"].to_list(), table["group_id"].to_list(), shares, seed)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
