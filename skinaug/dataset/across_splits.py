"""Pictures that a data set's own splits share: published collections often hold test pictures among the training ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import polars as pl

from skinaug.errors import InputError, listing, plural
from skinaug.leaks.lineage import COPY_OF

HELD_OUT = ("val", "test")  # the later, the less its pictures may be learned from


def levels_of(table: pl.DataFrame) -> np.ndarray:
    """Of each row's own split: 0 training or none, 1 validation, 2 test: int64 [N]."""
    splits = table["split"] if "split" in table.columns else [None] * len(table)
    return np.array([1 + HELD_OUT.index(split) if split in HELD_OUT else 0 for split in splits], np.int64)


def copies_of_held_out(
    levels: np.ndarray, pairs: np.ndarray, paths: Sequence[str], without: Collection[int]
) -> dict[int, str]:
    """Row to reason, for training pictures that are copies of validation or test ones, and validation pictures of test ones.

    Validation pictures come first: what is a copy of one that goes itself may stay.

    Args:
        levels: of each row, `levels_of`.
        pairs: rows of one picture, int [P, 2].
        paths: of each row.
        without: rows that are dropped anyhow.
    """
    reasons: dict[int, str] = {}
    gone = set(without)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[levels[both[:, 0]] < levels[both[:, 1]]]
    both = both[np.argsort(-levels[both[:, 1]], kind="stable")]
    for level in (1, 0):
        for row, other in both[levels[both[:, 0]] == level].tolist():
            if row not in gone and other not in gone:
                split = HELD_OUT[levels[other] - 1]
                gone.add(row)
                reasons[row] = f"{COPY_OF.format(split)}: of {paths[other]}"
    return reasons


def refuse_patients(table: pl.DataFrame) -> None:
    """Raise an InputError that names the patients whom a source has in several splits.

    table: `group_id` as the source tells it, `split` and `path`.
    """
    if lines := crossing(table):
        raise InputError(
            f"The data's own splits share {plural(len(lines), 'patient or lesion', 'patients or lesions')}:\n{listing(lines)}\nA patient may be in one split alone: "
            "correct the patients or the splits, or leave the splits out, and the data are split by patient. No option of "
            "dataset.duplicates helps here."
        )


def crossing(table: pl.DataFrame) -> list[str]:
    """A line for each group that is in several splits; rows without a split do not count."""
    groups = table.filter(pl.col("split").is_not_null()).group_by("group_id")
    found = groups.agg(pl.col("split").unique().sort(), "path").sort("group_id")
    return [
        f"{group}: {', '.join(splits)} ({', '.join(paths[:4])}{', ...' if len(paths) > 4 else ''})"
        for group, splits, paths in found.filter(pl.col("split").list.len() > 1).iter_rows()
    ]
