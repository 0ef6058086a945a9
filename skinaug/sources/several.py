"""Several data sets as one: each is read from its own folder by its own source, and keeps its patients and ids to itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from skinaug.errors import InputError, listing, plural
from skinaug.sources.left_out import LEFT_OUT, taken_and_left
from skinaug.sources.root import check_root, root_digest
from skinaug.sources.told import tell
from skinaug.store.files import strays

COLLECTION = "collection"  # the column that names an image's set
IDS = ("image_id", "group_id", "lesion_id")


@dataclass(frozen=True)
class Several:
    """Data sets, each with its `source`, its `root` and the `classes` that are taken of it (None: all).

    What stands in a set's ids has its name in front: patient 7 of one is not patient 7 of another. Who is in both is told by
    pictures that are copies (`dataset.duplicates`).

    Attributes:
        sets: name -> `source`, `root`, `classes`.
    """

    sets: Mapping[str, Mapping[str, Any]]
    needs_root: ClassVar[bool] = True

    @property
    def licence(self) -> str:
        """Of each set, named where they differ; "" where one set tells none: what holds its pictures has none to go by."""
        told = self._told("licence")
        return "" if "" in told.values() else _joined(told)

    @property
    def citation(self) -> str:
        return _joined({name: text for name, text in self._told("citation").items() if text})

    def folders(self) -> dict[str, Path]:
        """Each set's root without links.

        Raises:
            InputError: as `root.check_root`, of any set, or a set that would be rendered.
        """
        if not self.sets:
            raise InputError(
                "dataset=several names no sets. Name them, as in dataset=[ham10000,pad_ufes_20]."
            )
        found = {}
        for name, one in self.sets.items():
            if not one["source"].needs_root:
                raise InputError(
                    f"{name} renders its images and reads no folder: it cannot be one of several sets. Choose sets of photographs."
                )
            folder = check_root(one["source"], one["root"], f"dataset.source.sets.{name}")
            found[name] = Path(os.path.realpath(str(folder)))
        return found

    def common_root(self) -> Path:
        """The folder that all roots lie in."""
        return Path(os.path.commonpath(list(self.folders().values())))

    def digest(self) -> str:
        """Changes with what any of the sets reads."""
        folders = self.folders()
        told = [
            f"{name} {folder} {root_digest(folder, self.sets[name]['source'])}"
            for name, folder in folders.items()
        ]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def load(self, root: Path) -> pl.DataFrame:
        """The rows of all sets, with paths below their common folder and their set's name in `COLLECTION`.

        Raises:
            InputError: as the sets' sources, or images that lie outside their set's own folder.
        """
        tables = []
        for name, folder in self.folders().items():
            _refuse_packed(name, self.sets[name]["source"], folder)
            table = _with_name(name, self.sets[name]["source"].load(folder))
            paths = taken_and_left(table)[0]["path"].drop_nulls().to_list()
            if outside := strays(folder, paths):
                raise InputError(
                    f"{plural(len(outside), 'image')} of {name} {'leads' if len(outside) == 1 else 'lead'} out of its folder {folder}:\n"
                    f"{listing(paths[row] for row in outside)}\nReplace the links by the files, or leave the rows out."
                )
            table = _of_classes(name, table, self.sets[name]["classes"])
            inside = os.path.relpath(folder, root)
            prefix = "" if inside == "." else f"{Path(inside).as_posix()}/"
            placed = [column for column in ("path", "mask") if column in table.columns]
            tables.append(
                table.with_columns((pl.lit(prefix) + pl.col(column)).alias(column) for column in placed)
            )
        return pl.concat(tables, how="diagonal_relaxed")

    def _told(self, what: str) -> dict[str, str]:
        return {name: getattr(one["source"], what) for name, one in self.sets.items()}


def _with_name(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """A set's rows with its name in front of all ids, and in `COLLECTION`."""
    table = table.with_columns(pl.col("label").cast(pl.String))
    if "image_id" not in table.columns:
        table = table.with_columns(image_id="path")
    ids = [column for column in IDS if column in table.columns]
    table = table.with_columns(image_id=pl.coalesce(pl.col("image_id").cast(pl.String), "path"))
    named = [pl.format("{}/{}", pl.lit(name), pl.col(column).cast(pl.String)).alias(column) for column in ids]
    return table.with_columns(*named, pl.lit(name).alias(COLLECTION))


def _of_classes(name: str, table: pl.DataFrame, classes: list[str] | None) -> pl.DataFrame:
    if classes is None:
        return table
    if unknown := sorted({str(label) for label in classes} - set(taken_and_left(table)[0]["label"])):
        raise InputError(
            f"dataset.source.sets.{name}.classes has {', '.join(unknown)}; the set has {', '.join(sorted(table['label'].drop_nulls().unique()))}."
        )
    left = pl.col(LEFT_OUT).is_not_null() if LEFT_OUT in table.columns else pl.lit(False)
    kept = table.filter(pl.col("label").is_in([str(label) for label in classes]) | left)
    tell(
        f"left out {plural(len(table) - len(kept), 'image')} of {name}, of none of its classes that are asked for"
    )
    return kept


def _refuse_packed(name: str, source: Any, folder: Path) -> None:
    """Raise an InputError of a set that keeps its pictures in one file, which only a set by itself is unpacked from."""
    packed = getattr(source, "packed_file", None)
    if packed is not None and (file := packed(folder)) is not None:
        raise InputError(
            f"{name} has its pictures in {file}: as one of several sets, its folder of pictures must be there."
        )


def _joined(told: Mapping[str, str]) -> str:
    if len(set(told.values())) < 2:
        return next(iter(told.values()), "")
    return "; ".join(f"{name}: {text}" for name, text in told.items())
