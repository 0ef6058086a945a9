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


def photographs_of(training: Manifest, data: Manifest) -> pl.DataFrame:
    """`real_rows`, with the photographs that a picture was made from (`parents`) in its place.

    data: tells of these photographs; one that it does not know has an id and nothing else.
    """
    if "parents" not in training.table.columns:
        return real_rows(training)
    made = pl.col("parents").is_not_null()
    rows = training.table.filter((pl.col("source") == "real") & made)
    parents = rows.select(image_id=pl.col("parents").cast(pl.List(pl.String))).explode("image_id")
    known = parents.join(real_rows(data), on="image_id", how="left", maintain_order="left")
    return pl.concat([real_rows(training.where(~made)), known])


def real_rows(images: Manifest | None) -> pl.DataFrame:
    """A manifest's real images with the columns of `COLUMNS`; `lesion_id` is null where unknown."""
    if images is None:
        return pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))
    table = images.table.filter(pl.col("source") == "real")
    lesion = pl.col("lesion_id") if "lesion_id" in table.columns else pl.lit(None)
    return table.select("image_id", "sha256", "group_id", lesion_id=lesion.cast(pl.String))
