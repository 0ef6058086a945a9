"""Whether a source tells who the patients are: where it does not, each image (or lesion) is taken for one, and that is said."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import polars as pl


def without_patient(listed: pl.DataFrame) -> set[str]:
    """The paths of rows that a source names no patient of (`group_id`), neither in the row nor in another of the same lesion."""
    if "group_id" in listed.columns:
        unknown = pl.col("group_id").is_null()
        if "lesion_id" in listed.columns:
            unknown &= pl.col("lesion_id").is_null() | unknown.all().over("lesion_id")
        listed = listed.filter(unknown)
    return set(listed["path"].drop_nulls())


def untold(table: pl.DataFrame, paths: Collection[str]) -> dict[str, int]:
    """How many of a table's images are without a patient, how many patients they are taken for, and how many images there are.

    Args:
        table: `path` and `group_id`, and `lesion_id` where lesions are known.
        paths: of images without a patient; those that are not in the table do not count.
    """
    alone = table.filter(pl.col("path").is_in([*paths]))
    lesions = alone["lesion_id"].drop_nulls().n_unique() if "lesion_id" in table.columns else 0
    return {
        "images": len(alone),
        "lesions": lesions,
        "patients": alone["group_id"].n_unique(),
        "of_images": len(table),
    }


def sentence(counts: dict[str, int]) -> str:
    """What `untold` counts, in words; "" where every image has its patient."""
    alone, whole, lesions = counts["images"], counts["of_images"], counts["lesions"]
    if not alone:
        return ""
    head = (
        "No patients are told" if alone == whole else f"No patients are told of {alone:,} of {whole:,} images"
    )
    images = f"{alone:,} images{f' of {lesions:,} lesions' if lesions else ''}"
    return f"{head}: {images} are taken as {counts['patients']:,} patients."


def advice(source: Any) -> Iterator[str]:
    """What follows of images without a patient, and how this source can be told of patients."""
    yield "If a patient has several pictures, they may lie in training and in test, and the test flatters."
    if hasattr(source, "sets"):
        yield "Tell each set's patients: dataset.<name>.source.<option>=..., or in its file."
    elif hasattr(source, "group_pattern"):
        yield (
            r"""Tell patients by the files' names, as in dataset.source.group_pattern="'(PAT_\d+)_'", or with a table: dataset=csv and """
            "+dataset.source.columns.group_id=<its column>."
        )
    elif "group_id" in (getattr(source, "columns", None) or ()):
        yield "Fill the column of patients where they are known."
    elif getattr(source, "columns", None) is not None:
        yield "If the table has a column of patients: +dataset.source.columns.group_id=<the column>."
    elif hasattr(source, "columns"):
        yield "Tell patients in the tables, in a column group_id."
