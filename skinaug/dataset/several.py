"""What is particular about data of several sets: shared names of classes, splits of each set's own, copies in two sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from skinaug.dataset.splits import complete_splits, refuse_crossing
from skinaug.errors import InputError
from skinaug.sources.several import COLLECTION


def with_shared_names(
    table: pl.DataFrame, labels: Mapping[Any, Any] | None, classes: Sequence[Any] | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows under shared names of classes; and `path, reason` of those that have none.

    Args:
        table: `path` and `label`.
        labels: the data's names to shared ones; None: all keep theirs, and no row is left out.
        classes: names that rows may have beside those that are mapped to.

    Raises:
        InputError: names that no image has, or no image left.
    """
    if labels is None:
        return table, pl.DataFrame(schema={"path": pl.String, "reason": pl.String})
    shared = {str(theirs): str(ours) for theirs, ours in labels.items()}
    found = sorted(table["label"].unique())
    if absent := [name for name in shared if name not in found]:
        raise InputError(
            f"dataset.labels maps {', '.join(absent)}, which no image is labelled; the labels are {', '.join(found)}."
        )
    known = pl.col("label").is_in([*shared, *shared.values(), *map(str, classes or ())])
    left = table.filter(~known).select(
        "path", reason=pl.format("of a class that dataset.labels leaves out, {}", "label")
    )
    table = table.filter(known).with_columns(pl.col("label").replace(shared))
    if table.is_empty():
        raise InputError(f"dataset.labels leaves no image: the labels are {', '.join(found)}.")
    return table, left


def complete_splits_of_sets(table: pl.DataFrame, fractions: Mapping[str, float], seed: int) -> pl.DataFrame:
    """As `splits.complete_splits`, but of several sets each keeps the splits that it has of its own, and what it lacks is taken out of
    its own training rows. Sets without splits are dealt together.

    A group that is in several sets goes where those that have splits have put it.

    Raises:
        InputError: as `complete_splits`.
    """
    if COLLECTION not in table.columns or "split" not in table.columns or table["split"].is_null().all():
        return complete_splits(table, fractions, seed)
    given = table.filter(pl.col("split").is_not_null())
    refuse_crossing(given)
    splits = given.group_by(COLLECTION).agg(splits=pl.col("split").n_unique()).sort(COLLECTION)
    # The set with the most splits says where a group belongs: in one with fewer, training rows may go elsewhere.
    rank = table.join(splits, on=COLLECTION).sort(
        "splits", COLLECTION, descending=[True, False], maintain_order=True
    )
    told = rank.sort(pl.col("split").is_null(), maintain_order=True)
    homes = told.group_by("group_id", maintain_order=True).agg(
        dealer=pl.col(COLLECTION).first(), home=pl.col("split").first()
    )
    table = (
        table.drop("split")
        .join(homes, on="group_id", how="left", maintain_order="left")
        .rename({"home": "split"})
    )
    parts = [
        complete_splits(part.drop("dealer"), fractions, seed)
        for _, part in sorted(table.group_by("dealer", maintain_order=True), key=lambda one: str(one[0]))
    ]
    return pl.concat(parts, how="diagonal")


def across_sets(table: pl.DataFrame, links: pl.DataFrame | None, dropped: pl.DataFrame) -> dict[str, int]:
    """How many pictures of one set are in another: `copies_across_sets` that were dropped, `near_copies_across_sets` pairs.

    Args:
        table: `path` and the set of every row, dropped ones included.
        links: `path, other_path` of near-copies.
        dropped: `path, reason`.
    """
    if COLLECTION not in table.columns:
        return {}
    home = dict(table.select("path", COLLECTION).iter_rows())
    copies = dropped.filter(pl.col("reason").str.contains(": of ")).select(
        "path", other_path=pl.col("reason").str.split_exact(": of ", 1).struct[1]
    )
    pairs = [] if links is None else links.select("path", "other_path").iter_rows()
    return {
        "copies_across_sets": sum(home[one] != home[other] for one, other in copies.iter_rows()),
        "near_copies_across_sets": sum(home[one] != home[other] for one, other in pairs),
    }
