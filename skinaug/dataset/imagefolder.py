"""A manifest's way out to a Hugging Face ImageFolder, and back in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath

import polars as pl

from skinaug.errors import InputError, listing, plural
from skinaug.manifest import Manifest, is_list_of_text
from skinaug.progress import shown

WHOLE = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
DTYPES = {  # of exported columns, by their names
    str(dtype): dtype for dtype in (pl.String, pl.Boolean, pl.Date, pl.Null, pl.Float32, pl.Float64, *WHOLE)
}
INFO = "dataset_info.yaml"  # JSON, which is YAML too: a name that Hugging Face does not take for data


def to_imagefolder(manifest: Manifest, folder: Path) -> Path:
    """Export as a Hugging Face ImageFolder: `<split>/<label>/<image>` and one `metadata.jsonl` a split.

    `datasets.load_dataset("imagefolder", data_dir=folder)` reads it; `from_imagefolder` reads it back.

    Raises:
        InputError: the folder is not empty, or labels or ids would be files outside it. Nothing is written then.
    """
    file_names(manifest)  # before anything is written
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: give an empty or a new folder to export to.")
    # Masks stay behind: whoever reads the folder would take them for pictures of the class.
    table = _without_null_splits(manifest.table.drop("mask", strict=False))
    for split in manifest.table["split"].unique(maintain_order=True):
        part = manifest.split(split)
        names = file_names(part)
        for name, source in shown(zip(names, part.paths(), strict=True), f"copying {split}", len(names)):
            (folder / split / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / split / name)
        rows = (
            table.filter(pl.col("split") == split)
            .drop("path")
            .insert_column(0, pl.Series("file_name", names))
        )
        rows.write_ndjson(folder / split / "metadata.jsonl")
    dtypes = {name: str(dtype) for name, dtype in table.schema.items() if not dtype.is_nested()}
    about = {
        "classes": manifest.classes,
        "licence": manifest.licence,
        "citation": manifest.citation,
        "dtypes": dtypes,
    }
    (folder / INFO).write_text(json.dumps(about, indent=2))
    return folder


def file_names(manifest: Manifest) -> list[str]:
    """`<label>/<image_id>` with the picture's extension, of each row.

    Raises:
        InputError: labels or ids that would be files outside the folder that the names start from.
    """
    exported = [f"{label}/{name}" for label, name in manifest.table.select("label", "image_id").iter_rows()]
    absolute = manifest.table["image_id"].str.starts_with("/").to_list()
    climbing = [name for name, whole in zip(exported, absolute, strict=True) if whole or not _is_inside(name)]
    if climbing:
        raise InputError(
            f"{plural(len(climbing), 'label or id cannot be a name', 'labels and ids cannot be names')} of files below a folder:\n{listing(climbing)}\nRename them."
        )
    return [
        str(PurePosixPath(label, image_id + PurePosixPath(path).suffix.lower()))
        for label, image_id, path in manifest.table.select("label", "image_id", "path").iter_rows()
    ]


def from_imagefolder(folder: Path) -> Manifest:
    """Import what `to_imagefolder` wrote.

    Raises:
        InputError: files that are not there or were written by something else, or bad rows.
    """
    files = sorted(folder.glob("*/metadata.jsonl"))
    if not files:
        raise InputError(f"{folder} holds no <split>/metadata.jsonl: it is not an exported manifest.")
    try:
        about = json.loads((folder / INFO).read_text(encoding="utf-8"))
        dtypes = {name: DTYPES[dtype] for name, dtype in about["dtypes"].items()}
        tables = []
        for file in files:
            rows = pl.read_ndjson(file, infer_schema_length=None)
            path = pl.format("{}/{}", pl.lit(file.parent.name), "file_name")
            tables.append(rows.with_columns(path=path).drop("file_name"))
        table = pl.concat(tables, how="diagonal_relaxed")
        text = [name for name in dtypes if table.schema[name] == pl.String]
        table = table.with_columns(pl.col(name).replace("", None) for name in text).cast(dtypes)
        classes, licence, citation = (about[name] for name in ("classes", "licence", "citation"))
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        pl.exceptions.PolarsError,
    ) as error:
        raise InputError(
            f"{folder} is not as an exported manifest is: {error!r}. Export it again."
        ) from error
    if not is_list_of_text(classes):
        raise InputError(f"{folder / INFO} lacks a list of class names. Export it again.")
    return Manifest(table, folder, classes, str(licence), str(citation))


def _without_null_splits(table: pl.DataFrame) -> pl.DataFrame:
    """Columns that are empty throughout some split as text, with "" for nothing: JSON tells no type for a column of nulls,
    and Hugging Face refuses splits whose columns differ in type."""
    empty = table.group_by("split").agg(pl.exclude("split").is_null().all())
    names = [name for name in empty.columns if name != "split" and empty[name].any()]
    return table.with_columns(
        pl.col(name).cast(pl.String).fill_null("") for name in names if not table.schema[name].is_nested()
    )


def _is_inside(path: str) -> bool:
    """Whether a relative path names something below the folder that it is relative to."""
    return not path.startswith("/") and ".." not in path.split("/") and "\0" not in path
