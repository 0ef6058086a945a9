"""Training, validation and test images: no patient in two of them, every class in each, in the asked proportions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from skinaug.dataset.across_splits import crossing
from skinaug.errors import InputError, listing

TRIES = 10  # orders in which groups are dealt; the best balanced one is taken


def split_fractions(val_fraction: float, test_fraction: float) -> dict[str, float]:
    """Shares of train, val and test, which sum to 1; a share of 0 is left out.

    Raises:
        InputError: a share below 0, or nothing left for training.
    """
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise InputError(
            f"dataset.val_fraction={val_fraction} and dataset.test_fraction={test_fraction}: each must be at least 0, "
            "and their sum below 1."
        )
    shares = {"train": 1 - val_fraction - test_fraction, "val": val_fraction, "test": test_fraction}
    return {name: share for name, share in shares.items() if share > 0}


def assign_splits(
    labels: Sequence[str], groups: Sequence[str], fractions: Mapping[str, float], seed: int
) -> list[str]:
    """Deal whole groups to splits so that each class has its share of images in every split.

    One group of each class goes to every split first; then each group, large ones first and equals in random order, goes
    to the split that lacks the largest share of its classes. This is iterative stratification (Sechidis et al. 2011) with
    groups in the place of images; the choice does not look at a group's size, so patients with many images are in no
    split more often. The result depends on the seed and the set of images, not on their order.

    Args:
        labels, groups: of each image.
        fractions: split name to its share of images, above 0, summing to 1.
        seed: any integer.

    Returns:
        a split name for each image.

    Raises:
        InputError: a class has fewer groups than there are splits, or shares them with others so that it cannot be in all.
    """
    class_names, label_index = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    group_names, group_index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sizes = np.zeros((len(group_names), len(class_names)))
    np.add.at(sizes, (group_index, label_index), 1)
    _require_groups(sizes, class_names, fractions)
    targets = np.array(list(fractions.values()))[:, None] * sizes.sum(axis=0)
    rng = np.random.default_rng(seed)
    deals = [_deal(sizes, targets, rng.permutation(len(sizes))) for _ in range(TRIES)]
    best = min(deals, key=lambda deal: _imbalance(deal, sizes, targets))
    if np.isinf(_imbalance(best, sizes, targets)):
        raise InputError(
            f"No way was found to give {', '.join(fractions)} a patient of every class: some classes share their few "
            "patients. Add images, leave classes out with dataset.classes=[...], or give a split column."
        )
    names = np.array(list(fractions))
    return names[best[group_index]].tolist()


def complete_splits(table: pl.DataFrame, fractions: Mapping[str, float], seed: int) -> pl.DataFrame:
    """`table` with its own `split` column where it has one; what that lacks is dealt.

    Rows without a split are dealt by `fractions`. A validation or test split that the source lacks altogether is taken out
    of its training rows.

    Raises:
        InputError: groups that the source has in several splits, or a class has too few groups.
    """
    if "split" not in table.columns or table["split"].is_null().all():
        return table.with_columns(split=_dealt(table, fractions, seed))
    given = table.filter(pl.col("split").is_not_null())
    refuse_crossing(given)
    home = dict(given.select("group_id", "split").iter_rows())
    split = pl.Series([home.get(group) for group in table["group_id"]], dtype=pl.String)
    table = table.with_columns(split=split)
    wanted = {
        name: share for name, share in fractions.items() if name == "train" or name not in set(given["split"])
    }
    if len(wanted) > 1:
        loose = pl.col("split").is_null() | (pl.col("split") == "train")
    else:
        loose, wanted = pl.col("split").is_null(), dict(fractions)
    dealt = table.filter(loose)
    if dealt.is_empty():
        return table
    total = sum(wanted.values())
    dealt = dealt.with_columns(
        split=_dealt(dealt, {name: share / total for name, share in wanted.items()}, seed)
    )
    return pl.concat([table.filter(~loose.fill_null(False)), dealt])


def refuse_crossing(table: pl.DataFrame) -> None:
    """Raise an InputError that names the groups which a source has in several splits.

    Of patients this was refused before (`across_splits.refuse_patients`): copies have joined these groups.
    """
    if lines := crossing(table):
        raise InputError(
            f"The data's own splits share near-identical pictures, which join {len(lines)} groups of patients:\n{listing(lines)}"
            "\nLeave copies of test pictures out of training and validation, and those of validation pictures out of training, with "
            "dataset.duplicates.across_splits=drop_train, or correct or leave out the splits (dataset.source.own_splits=false of a published set)."
        )


def _dealt(table: pl.DataFrame, fractions: Mapping[str, float], seed: int) -> pl.Series:
    return pl.Series(assign_splits(table["label"].to_list(), table["group_id"].to_list(), fractions, seed))


def _require_groups(sizes: np.ndarray, class_names: np.ndarray, fractions: Mapping[str, float]) -> None:
    counts = (sizes > 0).sum(axis=0)
    few = [
        f"{name}: {count}" for name, count in zip(class_names, counts, strict=True) if count < len(fractions)
    ]
    if few:
        raise InputError(
            f"Each of {', '.join(fractions)} needs a patient (or an image without a patient) of every class. Too few in:"
            f"\n{listing(few)}\nAdd images, or leave these classes out with dataset.min_patients={len(fractions)} or dataset.classes=[...]."
        )


def _deal(sizes: np.ndarray, targets: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Split index of each group, int [G]; groups in `order`, `sizes` [G, classes], `targets` [splits, classes]."""
    deal = np.full(len(sizes), -1)
    counts = np.zeros_like(targets)
    for group, split in _one_of_each(sizes, targets, order):
        deal[group] = split
        counts[split] += sizes[group]
    rest = order[deal[order] < 0]
    for group in rest[np.argsort(-sizes[rest].sum(axis=1), kind="stable")]:
        filled = (sizes[group] * (counts / targets)).sum(axis=1)
        deal[group] = filled.argmin()
        counts[deal[group]] += sizes[group]
    return deal


def _one_of_each(sizes: np.ndarray, targets: np.ndarray, order: np.ndarray) -> list[tuple[int, int]]:
    """A group for every split and class, (group, split), rare classes first; classes that a dealt group brings are done."""
    dealt: list[tuple[int, int]] = []
    taken = np.zeros(len(sizes), bool)
    present = np.zeros(targets.shape, bool)
    for label in np.argsort((sizes > 0).sum(axis=0), kind="stable"):
        for split in range(len(targets)):
            free = order[(sizes[order, label] > 0) & ~taken[order]]
            if present[split, label] or not len(free):
                continue
            dealt.append((free[0], split))
            taken[free[0]] = True
            present[split] |= sizes[free[0]] > 0
    return dealt


def _imbalance(deal: np.ndarray, sizes: np.ndarray, targets: np.ndarray) -> float:
    """Sum of (count - target)^2 / target; infinite where a split lacks a class."""
    counts = np.stack([sizes[deal == split].sum(axis=0) for split in range(len(targets))])
    return float(((counts - targets) ** 2 / targets).sum()) if (counts > 0).all() else float("inf")
