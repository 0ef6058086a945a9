"""A folder of images as it comes: how it is laid out is told from what lies in it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from skinaug.errors import InputError
from skinaug.manifest import GIVEN, SYNTHETIC, Manifest
from skinaug.sources.check import Picture, usable_images
from skinaug.sources.files import list_images, metadata_files
from skinaug.sources.labels import labelled
from skinaug.sources.sources import PAD_UFES_20_COLUMNS, Csv, Flat, Folder, ImageFolder, PadUfes20
from skinaug.sources.tables import COMPUTED, read_csv
from skinaug.sources.top_folders import UnclearFolders

ONE_CLASS = "images"  # of a folder that names no classes


def source_of(root: Path) -> ImageFolder | PadUfes20 | Csv | Folder | Flat:
    """The source that reads a folder.

    A table in it (`metadata.jsonl` or `metadata.csv`, also below it) with `file_name` makes it an ImageFolder, one with `path`
    and `label` a Csv, and PAD-UFES-20's columns make it that. Without a table it has a sub-folder a class, or, where images
    lie in none, one class.

    Raises:
        InputError: metadata.csv has other columns.
    """
    table = root / "metadata.csv"
    if table.is_file():
        columns = read_csv(table).columns
        if "file_name" in columns:
            return ImageFolder(label=ONE_CLASS)
        if {PAD_UFES_20_COLUMNS[name] for name in ("path", "label", "group_id")} <= set(columns):
            return PadUfes20()
        if {"path", "label"} <= set(columns):
            return Csv({name: name for name in columns if name not in COMPUTED})
        raise InputError(
            f"{table} has the columns {', '.join(columns)}; it needs `file_name`, or `path` and `label`. Rename its columns, or "
            "move it elsewhere, and the folders' names are taken for classes."
        )
    if metadata_files(root):
        return ImageFolder(label=ONE_CLASS)
    return Folder() if any("/" in name for name in list_images(root)) else Flat(ONE_CLASS)


def read_images(
    root: Path, kind: str, min_size_px: int, on_bad: str, masks: str = "keep"
) -> tuple[Manifest, list[Picture], pl.DataFrame]:
    """A folder's images, each opened once: their manifest, what was read of each, and `path, reason` of those dropped.

    Args:
        root: the folder, which holds images (`root.check_folder`).
        kind: real or synthetic: also stands in front of every `image_id`. Real images keep their splits and are for training
            where they have none; the patient is `group_id`, else the lesion, else the image. Synthetic ones are each their own.
        min_size_px, on_bad, masks: as in `check.usable_images`.

    Raises:
        InputError: no table or images that can be read, or rows that no manifest can have.
    """
    source = source_of(root)
    try:
        table = source.load(root)
    except UnclearFolders as error:
        advice = (
            f"Rename the splits train, val and test, or give the one that is meant: {kind}={root}/<folder>."
        )
        raise InputError(f"{error.why}\n{advice}") from None
    table, without = labelled(table, on_bad)
    table, pictures, bad = usable_images(root, table, min_size_px, on_bad, masks)
    dropped = pl.concat([without, bad])
    absent = [name for name in ("image_id", "group_id", "lesion_id", "split") if name not in table.columns]
    table = table.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    named = pl.format("{}/{}", pl.lit(kind), pl.coalesce("image_id", "path"))
    if kind == "synthetic":
        unknown = [name for name in SYNTHETIC if name not in table.columns]
        table = table.with_columns(pl.lit(None, pl.String).alias(name) for name in unknown)
        table = table.with_columns(split=pl.lit("train"), weights=pl.lit(GIVEN), group_id=named)
    table = table.with_columns(
        image_id=named,
        source=pl.lit(kind),
        split=pl.col("split").fill_null("train"),
        group_id=pl.coalesce("group_id", "lesion_id", named),
    )
    lists = [name for name, dtype in table.schema.items() if dtype.is_nested()]
    manifest = Manifest(
        table.drop(*lists, "parents", "lesion_id", strict=False),
        root,
        tuple(sorted(table["label"].unique())),
        source.licence,
        source.citation,
    )
    return manifest, pictures, dropped
