"""Classes too small to be split: published sets have diagnoses of one patient."""

from __future__ import annotations

import polars as pl

from skinaug.errors import InputError, listing


def without_small_classes(
    table: pl.DataFrame, min_patients: int | None
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, dict[str, int]]]:
    """Leave out classes of fewer patients than `min_patients`, or without one in a split that the source has.

    Args:
        table: `path, label, group_id`, and `split` where the source has its own.
        min_patients: at least 1; None: every class stays.

    Returns:
        the rows of the other classes; `path, reason` of those left out; and `images` and `patients` of each class left out.

    Raises:
        InputError: `min_patients` is below 1, or fewer than two of several classes would stay.
    """
    if min_patients is not None and min_patients < 1:
        raise InputError(
            f"dataset.min_patients={min_patients}: it must be at least 1, or null to keep every class."
        )
    patients = pl.col("group_id").n_unique()
    told = table.group_by("label").agg(
        images=pl.len(), patients=patients, small=patients < (min_patients or 0)
    )
    if min_patients and "split" in table.columns:
        # What a source has no split for is dealt, and may be in any.
        given = table["split"].drop_nulls().unique().to_list()
        absent = table.group_by("label").agg(
            absent=pl.col("split").is_not_null().all()
            & ~pl.all_horizontal((pl.col("split") == name).any() for name in given)
        )
        told = told.join(absent, on="label").with_columns(small=pl.col("small") | pl.col("absent"))
    small = told.filter("small").sort("label")
    if min_patients and len(told) - len(small) < min(2, len(told)):
        lines = [
            f"{label}: {count}" for label, count in told.sort("label").select("label", "patients").iter_rows()
        ]
        raise InputError(
            f"dataset.min_patients={min_patients} leaves {len(told) - len(small)} of {len(told)} classes. Patients of each:\n"
            f"{listing(lines)}\nTake a smaller number, or a label of fewer classes."
        )
    gone = pl.col("label").is_in(small["label"].implode())
    reason = pl.format("class of too few patients: {}", "label")
    classes = {
        label: {"images": i, "patients": p}
        for label, i, p in small.select("label", "images", "patients").iter_rows()
    }
    return table.filter(~gone), table.filter(gone).select("path", reason=reason), classes
