"""The table that every stage reads and writes: an immutable, validated list of images under a root folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from skinaug.errors import InputError, listing, plural
from skinaug.store.files import strays

SCHEMA_VERSION = "1"
REQUIRED: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "path": pl.String(),
    "label": pl.String(),
    "split": pl.String(),
    "group_id": pl.String(),
    "source": pl.String(),
    "width": pl.Int32(),
    "height": pl.Int32(),
    "sha256": pl.String(),
}
OPTIONAL = {  # column: what it holds, and whether a type is that
    "age": ("a number", lambda dtype: dtype.is_numeric() or dtype == pl.Null),
    "mask": ("text", lambda dtype: dtype in (pl.String, pl.Null)),
    "parents": ("a list of image ids", lambda dtype: dtype in (pl.List(pl.String), pl.List(pl.Null))),
    "prompt": ("text", lambda dtype: dtype in (pl.String, pl.Null)),
}
SYNTHETIC = ("prompt", "prompt_set", "seed", "guidance_scale", "num_inference_steps", "scheduler", "weights")
GIVEN = (
    "given"  # the `weights` of pictures that were made elsewhere, of which the other columns may be unknown
)
SPLITS = ("train", "val", "test")
SOURCES = ("real", "synthetic")
EXPOSURES = {  # of a synthetic pool: what its filters knew of the study's real photographs
    "raw": "raw, no filter",
    "off_the_shelf": "filtered with off-the-shelf models only",
    "real": "filtered with models trained on the real data",
}
MOST_NAMED = 20  # bad rows that a message names
FILE_NAME = "manifest.parquet"


@dataclass(frozen=True)
class Manifest:
    """Images as rows: real data, a synthetic pool, a curated pool and a mix all look like this.

    Attributes:
        table: one row an image. Required: `image_id` (unique), `path` (POSIX, relative to `root`), `label`, `split`
            (train, val, test), `group_id` (patient: never crosses splits), `source` (real, synthetic), `width` and
            `height` in pixels, `sha256` of the file. Attributes where known: `body_site`, `skin_type` (a word of a scale: `sources.vocabulary`), `age`
            in years, `sex`, `lesion_id`, `mask` (path of a picture that is white where lesions are). Synthetic rows also have `prompt`, `prompt_set`, `seed`, `guidance_scale`,
            `num_inference_steps`, `scheduler`, `weights` (a digest, or GIVEN) and `parents` (image ids), once curated
            also `exposure` (a key of `EXPOSURES`).
        root: the folder that paths are relative to.
        classes: label names; a label's position is its class index.
        licence, citation: of the data, carried into every report.

    Raises:
        InputError: on construction, naming every bad row at once.
    """

    table: pl.DataFrame
    root: Path
    classes: tuple[str, ...]
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        missing = [name for name in REQUIRED if name not in self.table.columns]
        if missing:
            raise InputError(
                f"A manifest needs the columns {', '.join(missing)}; it has {', '.join(self.table.columns)}."
            )
        object.__setattr__(self, "root", Path(os.path.abspath(self.root)))
        object.__setattr__(self, "classes", tuple(self.classes))
        if len(set(self.classes)) < len(self.classes):
            raise InputError(f"The manifest under {self.root} names a class twice: {list(self.classes)}.")
        table = _typed(self.table, self.root)
        object.__setattr__(self, "table", table)
        count, first = _problems(table, self.classes)
        if count:
            more = [f"... and {count - len(first)} more"] * (count > len(first))
            raise InputError(
                f"The manifest under {self.root} has {count} bad rows:\n{listing(first + more, most=MOST_NAMED + 1)}"
            )

    def __len__(self) -> int:
        return self.table.height

    @property
    def digest(self) -> str:
        """SHA-256 of the rows' content, whatever their order and root folder."""
        rows = self.table.select(sorted(self.table.columns)).sort("image_id").write_ndjson()
        return hashlib.sha256(json.dumps([self.classes, rows]).encode()).hexdigest()

    def paths(self) -> list[Path]:
        """Absolute paths of the images, in row order.

        Raises:
            InputError: links that lead out of the root: nothing outside it is read.
        """
        paths = self.table["path"].to_list()
        outside = strays(self.root, paths)
        if outside:
            raise InputError(
                f"{plural(len(outside), 'image of the manifest leads', 'images of the manifest lead')} out of its root {self.root}:\n{listing(paths[row] for row in outside)}"
                "\nReplace the links by the files, or leave the rows out."
            )
        return [self.root / path for path in paths]

    def labels(self) -> list[int]:
        """Class indices of the images, in row order."""
        index = {name: position for position, name in enumerate(self.classes)}
        return [index[label] for label in self.table["label"]]

    def with_table(self, table: pl.DataFrame) -> Manifest:
        """The same root, classes and licence with other rows."""
        return replace(self, table=table)

    def where(self, condition: pl.Expr) -> Manifest:
        """The rows for which a polars expression holds."""
        return self.with_table(self.table.filter(condition))

    def split(self, name: str) -> Manifest:
        """The rows of one split: train, val or test."""
        return self.where(pl.col("split") == name)

    @staticmethod
    def concat(manifests: Sequence[Manifest]) -> Manifest:
        """All rows of several manifests with equal classes; the root becomes their common parent folder."""
        classes = {manifest.classes for manifest in manifests}
        if len(classes) != 1:
            raise InputError(f"Manifests with different classes cannot be joined: {sorted(classes)}")
        root = Path(os.path.commonpath([manifest.root for manifest in manifests]))
        return Manifest(
            table=pl.concat([_rebase(manifest, root) for manifest in manifests], how="diagonal_relaxed"),
            root=root,
            classes=manifests[0].classes,
            licence="; ".join(dict.fromkeys(m.licence for m in manifests if m.licence)),
            citation="; ".join(dict.fromkeys(m.citation for m in manifests if m.citation)),
        )

    def write(self, folder: Path) -> Path:
        """Save as `folder/manifest.parquet`, whole or not at all; a root inside `folder` is kept relative to it."""
        folder = Path(os.path.abspath(folder))
        root = os.path.relpath(self.root, folder) if self.root.is_relative_to(folder) else str(self.root)
        about = {
            "schema_version": SCHEMA_VERSION,
            "root": root,
            "classes": json.dumps(self.classes),
            "licence": self.licence,
            "citation": self.citation,
        }
        path = folder / FILE_NAME
        partial = path.with_suffix(".partial")
        pq.write_table(self.table.to_arrow().replace_schema_metadata(about), partial)
        os.replace(partial, path)
        return path

    @staticmethod
    def read(path: Path | str) -> Manifest:
        """Load a manifest from its Parquet file or from the folder that holds it.

        Raises:
            InputError: no such file, no Parquet file of this kind, another schema version, or bad rows.
        """
        path = Path(os.path.abspath(path))
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise InputError(f"There is no manifest at {path}.")
        try:
            arrow = pq.ParquetFile(path).read()
            about = {key.decode(): value.decode() for key, value in (arrow.schema.metadata or {}).items()}
            table = pl.DataFrame(pl.from_arrow(arrow.replace_schema_metadata(None)))
        except (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise InputError(f"{path} is no manifest that can be read: {error}. Build it again.") from error
        found = about.get("schema_version")
        if found is None:
            raise InputError(f"{path} tells no manifest schema: no stage has written it. Build it again.")
        if found != SCHEMA_VERSION:
            raise InputError(
                f"{path} has manifest schema {found}; this version reads {SCHEMA_VERSION}. Install the skinaug that wrote it, or build "
                "it again."
            )
        absent = [name for name in ("root", "classes", "licence", "citation") if name not in about]
        if absent or not is_list_of_text(classes := _json(about["classes"])):
            raise InputError(
                f"{path} lacks {', '.join(absent) or 'a list of class names'} in its metadata. Build it again."
            )
        return Manifest(table, path.parent / about["root"], classes, about["licence"], about["citation"])


@lru_cache(maxsize=16)
def read_once(folder: Path) -> Manifest:
    """The manifest of an artifact, which never changes: many jobs and sections of a report ask for the same one."""
    return Manifest.read(folder)


def _rebase(manifest: Manifest, root: Path) -> pl.DataFrame:
    prefix = manifest.root.relative_to(root).as_posix()
    paths = [name for name in ("path", "mask") if name in manifest.table.columns]
    return manifest.table.with_columns(
        (pl.lit("" if prefix == "." else f"{prefix}/") + pl.col(name)).alias(name) for name in paths
    )


def _json(text: str) -> Any:
    """The content, None where it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _typed(table: pl.DataFrame, root: Path) -> pl.DataFrame:
    """The table with the required columns' types. Raises InputError naming all columns that cannot have theirs."""
    found, bad = {}, []
    for name, dtype in REQUIRED.items():
        told = f"{name} must be {dtype}, and is {table.schema[name]}"
        if table.schema[name].is_nested():  # polars casts what is inside
            bad.append(told)
            continue
        try:
            found[name] = table[name].cast(dtype)
        except pl.exceptions.PolarsError as error:
            bad.append(f"{told}: {str(error).splitlines()[0]}")
    bad += [
        f"{name} must be {what}, and is {table.schema[name]}"
        for name, (what, fits) in OPTIONAL.items()
        if name in table.columns and not fits(table.schema[name])
    ]
    if bad:
        raise InputError(
            f"The manifest under {root} has columns of other types:\n{listing(bad)}\nBuild it again."
        )
    return table.with_columns(**found)


def _problems(table: pl.DataFrame, classes: Sequence[str]) -> tuple[int, list[str]]:
    """The number of bad rows and a line for each of the first MOST_NAMED: missing values, unknown words, repeated ids, paths
    that leave the root, groups across splits."""
    path = pl.col("path")
    crossing = (
        table.group_by("group_id").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1)["group_id"]
    )
    lacking = [name for name in SYNTHETIC if name not in table.columns]
    unknown = pl.lit(True)
    if not lacking:
        drawn = pl.col("weights").cast(pl.String).ne_missing(GIVEN)
        unknown = drawn & pl.any_horizontal(pl.col(name).is_null() for name in SYNTHETIC)
    faults = {
        "has no value in a required column": pl.any_horizontal(pl.col(name).is_null() for name in REQUIRED),
        "repeats an image_id": pl.col("image_id").is_duplicated(),
        f"has a label outside {list(classes)}": ~pl.col("label").is_in(list(classes)),
        f"has a split outside {list(SPLITS)}": ~pl.col("split").is_in(list(SPLITS)),
        f"has a source outside {list(SOURCES)}": ~pl.col("source").is_in(list(SOURCES)),
        "has a path that is not inside the root": path.str.starts_with("/")
        | path.is_in(["", "."])
        | path.str.contains(r"(^|/)\.\.(/|$)|\x00"),
        "has a group_id that is in several splits": pl.col("group_id").is_in(crossing.to_list()),
        "is below one pixel": (pl.col("width") < 1) | (pl.col("height") < 1),
        "is synthetic and outside the train split": (pl.col("source") == "synthetic")
        & (pl.col("split") != "train"),
        f"is synthetic and lacks one of {list(SYNTHETIC)}": (pl.col("source") == "synthetic") & unknown,
    }
    if not table.select(pl.any_horizontal(*faults.values()).any()).item():
        return 0, []
    number = pl.Series("number of the row", range(table.height), dtype=pl.Int64)  # a name that no column has
    rows, count, lines = table.with_columns(number), 0, list[str]()
    for text, condition in faults.items():
        bad = rows.filter(condition.fill_null(False)).select(number.name, "image_id", "path")
        count += bad.height
        room = MOST_NAMED - len(lines)
        lines += [f"row {row} ({name}, {place}) {text}" for row, name, place in bad.head(room).iter_rows()]
    return count, lines
