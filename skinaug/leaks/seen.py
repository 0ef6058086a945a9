"""Which real photographs a stage was given: a table beside its artifact, which an audit reads."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from skinaug.manifest import Manifest

FILE_NAME = "seen.parquet"
COLUMNS = ("image_id", "sha256", "group_id", "lesion_id")


def write_seen(images: Manifest | None, out: Path) -> Manifest | None:
    """Note the real images of what a stage is about to be given, and return it; None: it is given no photograph."""
    real_rows(images).write_parquet(out / FILE_NAME)
    return images


def read_seen(folder: Path) -> pl.DataFrame | None:
    """The columns of `COLUMNS`, one row a photograph; None where nothing was noted."""
    file = folder / FILE_NAME
    return pl.read_parquet(file) if file.is_file() else None


def real_rows(images: Manifest | None) -> pl.DataFrame:
    """A manifest's real images with the columns of `COLUMNS`; `lesion_id` is null where unknown."""
    if images is None:
        return pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))
    table = images.table.filter(pl.col("source") == "real")
    lesion = pl.col("lesion_id") if "lesion_id" in table.columns else pl.lit(None)
    return table.select("image_id", "sha256", "group_id", lesion_id=lesion.cast(pl.String))
