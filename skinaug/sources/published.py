"""Published sets as they are unpacked: tables that are joined, and whose columns tell pictures, labels, patients and splits.

A set is one YAML in conf/dataset/; nothing here knows any of them by name. What is left out keeps its row, with the reason in the
column `left_out`, so that every stage that reads a source counts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from skinaug.errors import InputError, listing
from skinaug.manifest import SPLITS
from skinaug.sources.files import is_utf8, list_images
from skinaug.sources.groups import merge_groups
from skinaug.sources.joined import (
    ROW,
    SPLIT,
    check_sheets,
    find_file,
    join_sheets,
    listed,
    read_pairs,
    read_row_numbers,
)
from skinaug.sources.left_out import LEFT_OUT
from skinaug.sources.packed import packed_paths, unpack
from skinaug.sources.pictures import Finder
from skinaug.sources.tables import COMPUTED, SPLIT_WORDS, tidy
from skinaug.sources.values import Value, check_value, columns_of, is_optional, read_value
from skinaug.sources.vocabulary import check_scales

NAME = "@name"  # a column that no table has


@dataclass(frozen=True)
class Tables:
    """A published set: tables, and what their columns mean. Values are told as `sources.values` says.

    Attributes:
        sheets: the tables: {file, key, split, optional} each. `file` is a name, or several of which the first that is there counts, in the root
            or in any folder below it. Rows of those without `key` are put below each other, and are of the split that `split`
            names; those with `key` are joined to them by that column, of which each value is in one of their rows. `optional`
            ones may be missing.
        labels: what `label` may choose, and how each is read.
        label: one of `labels`, or the name of a column.
        path: the column that names the picture, by path, name or stem; of several, the first by which a row's picture is found.
        pictures: what `images` may choose where a row has several pictures or a picture several rows: {columns: [...]}, a picture
            in each, or {where: {column: word}}.
        images: one of `pictures`.
        columns: our column to its value: `image_id`, `group_id` (the patient, else the case), `lesion_id`, attributes.
        scales: the scale that skin types are on, and who told_by them, by our column's name: `vocabulary.read_attributes`.
        gives_away: columns that tell the label in other words, and may be no column of ours.
        reject: column to words of quality control: rows that have them are left out.
        least_weight: share, in [0, 1], that the largest of several dermatologists' weights needs.
        splits: the set's own: {column, names}, or {rows: {train: file, ...}}, files that list numbers of rows, from 0.
        own_splits: whether to use them. Rows of training patients who are in another split too are left out, and those of
            validation patients who are in the test.
        pairs: {file, columns: [first, second]}: pictures of one patient, by their names, for each row of a file.
        packed: an HDF5 file that holds the pictures, read where none lie in folders (`sources.packed`).
        on_missing: rows whose picture is not there: "fail", or "drop" where that is known of a set.
        licence, citation: of the data.
    """

    sheets: Sequence[Mapping[str, Any]]
    labels: Mapping[str, Value]
    label: str
    path: str | Sequence[str]
    pictures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    images: str | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)
    scales: Mapping[str, Any] | None = None
    told_by: Mapping[str, str] | None = None
    gives_away: Sequence[str] = ()
    reject: Mapping[str, Sequence[str]] | None = None
    least_weight: float = 0.0
    splits: Mapping[str, Any] | None = None
    own_splits: bool = True
    pairs: Mapping[str, Any] | None = None
    packed: str | None = None
    on_missing: str = "fail"
    licence: str = ""
    citation: str = ""
    needs_root: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.images not in self.pictures and (self.pictures or self.images):
            raise InputError(
                f"source.images={self.images}: choose from {', '.join(self.pictures) or 'null alone'}."
            )
        if self.on_missing not in ("fail", "drop"):
            raise InputError(f"source.on_missing={self.on_missing}: choose fail or drop.")
        if not 0 <= self.least_weight <= 1:
            raise InputError(f"source.least_weight={self.least_weight}: it must be in [0, 1].")
        check_sheets(self.sheets)
        check_scales(self.scales, self.told_by)
        for name, value in {**self.columns, **self.labels}.items():
            check_value(value, f"source.columns.{name}" if name in self.columns else f"source.labels.{name}")
        if taken := [name for name in self.columns if name in ("path", "label", "split", *COMPUTED)]:
            raise InputError(
                f"source.columns maps {', '.join(taken)}, which is told elsewhere or computed: leave it out."
            )
        told = [name for name, value in self.columns.items() if set(columns_of(value)) & set(self.gives_away)]
        if told:
            raise InputError(
                f"source.columns maps {', '.join(told)} to columns that give the label away: {', '.join(self.gives_away)}. "
                "They tell what was found out about a picture, not what it shows, and may be no attribute."
            )

    def load(self, root: Path) -> pl.DataFrame:
        """The set's rows, a picture each, tidied; and the pictures that no row names, as rows without a label.

        Raises:
            InputError: tables or columns that are not there, several rows to join, names that fit several pictures, no picture
                of any row, or an option that this set has not.
        """
        tables = join_sheets(root, self.sheets)
        self._refuse_columns(root, set(tables.columns))
        rows, unnamed = self._with_paths(root, tables, self._rows(root, tables))
        rows = _one_row_a_picture(rows)
        rows = _leave_out(rows, _in_a_later_split(["group_id", "lesion_id"]))
        left = pl.col(LEFT_OUT).is_not_null()
        names = ["path", "label", "split", *sorted({*self.columns, "group_id"})]
        taken = tidy(rows.filter(~left).select(names), self.scales, self.told_by)
        taken = taken.select(
            name for name in taken.columns if name == "label" or taken[name].is_not_null().any()
        )
        return pl.concat(
            [taken, rows.filter(left).select("path", "label", LEFT_OUT), unnamed], how="diagonal"
        )

    def tables(self, root: Path) -> list[str]:
        """The files that are read beside pictures in folders, relative to the root."""
        names = [listed(sheet["file"]) for sheet in self.sheets]
        names += [[name] for name in (self.splits or {}).get("rows", {}).values()]
        names += [[name] for name in (self.packed, (self.pairs or {}).get("file")) if name]
        found = (find_file(root, name) for name in names)
        return [file.relative_to(root).as_posix() for file in found if file is not None]

    def unpack(self, root: Path, paths: Sequence[str], out: Path) -> Path:
        """The folder that pictures of some paths lie in: the root, or `out`, into which they are unpacked."""
        file = self.packed_file(root)
        if file is None:
            return root
        unpack(file, paths, out)
        return out

    def packed_file(self, root: Path) -> Path | None:
        """The HDF5 file, where it is needed."""
        return None if self.packed is None or list_images(root) else find_file(root, [self.packed])

    def _refuse_columns(self, root: Path, known: set[str]) -> None:
        """Raise an InputError that lists what the tables lack of the columns that are needed."""
        needed: dict[str, Value] = {"path": self.path, "label": self._label(known)}
        needed |= {name: value for name, value in self.columns.items() if not is_optional(value)}
        lacking = [
            f"{ours} <- {' or '.join(names)}"
            for ours, value in needed.items()
            for names in [columns_of(value)]
            if not set(names) <= known
            and (not set(names) & known or (isinstance(value, Mapping) and "one_hot" in value))
        ]
        chosen = self.pictures.get(self.images or "", {})
        named = [*chosen.get("columns", ()), *chosen.get("where", ()), *(self.reject or {})]
        lacking += [name for name in named if name not in known]
        if lacking:
            raise InputError(
                f"The tables under {root} lack columns of this set:\n{listing(lacking)}\nThey have: "
                f"{', '.join(sorted(name for name in known if not name.startswith('@')))}.\nIs it the set as published?"
            )

    def _label(self, known: set[str]) -> Value:
        if self.label in self.labels:
            return self.labels[self.label]
        if self.label in known:
            return self.label
        raise InputError(
            f"source.label={self.label}: choose from {', '.join(self.labels)}, or name a column of the tables."
        )

    def _splits(self, root: Path, rows: pl.DataFrame) -> pl.Series:
        """The split of each row by the set's own; null where those are not used or no row is for training."""
        splits = rows[SPLIT]
        if self.own_splits and self.splits and "rows" in self.splits:
            splits = pl.Series(read_row_numbers(root, self.splits["rows"], len(rows)), dtype=pl.String)
        elif self.own_splits and self.splits:
            splits = read_value(rows, self.splits)["value"].str.to_lowercase().replace(SPLIT_WORDS)
        unused = not self.own_splits or not (splits == "train").any()
        return pl.Series([None] * len(rows), dtype=pl.String) if unused else splits

    def _rows(self, root: Path, tables: pl.DataFrame) -> pl.DataFrame:
        """A row for each picture that is chosen: ours of its columns, in NAME the names that it may have, and in LEFT_OUT why it is
        left out, or null."""
        label = read_value(tables, self._label(set(tables.columns)), self.least_weight)
        columns = {name: read_value(tables, value)["value"] for name, value in self.columns.items()}
        empty = pl.Series([None] * len(tables), dtype=pl.String)
        columns |= {name: empty for name in ("group_id", "lesion_id") if name not in columns}
        columns["group_id"] = self._groups(root, tables, columns["group_id"], columns["lesion_id"])
        chosen = self.pictures.get(self.images or "", {}).get("columns")
        names = listed(chosen or self.path)
        pictures = tables.select(
            pl.concat_list(name for name in names if name in tables.columns).list.drop_nulls()
        )
        rows = pl.DataFrame({**columns, "label": label["value"], LEFT_OUT: self._rejected(tables)})
        rows = rows.with_columns(self._splits(root, tables).alias("split"), pictures.to_series().alias(NAME))
        rows = _leave_out(rows, pl.lit(label["left_out"]))
        return rows.explode(NAME).with_columns(pl.concat_list(NAME)) if chosen else rows

    def _groups(self, root: Path, tables: pl.DataFrame, patients: pl.Series, lesions: pl.Series) -> pl.Series:
        """The patient of each row; joined with others where rows share a picture, or a pair of the set's names two."""
        links = self._shared_pictures(tables)
        if self.pairs:
            links = np.concatenate([links, read_pairs(root, self.pairs, tables, columns_of(self.path)[0])])
        if not len(links):
            return patients
        alone = pl.Series([f"row {row}" for row in range(len(tables))])
        groups = pl.select(pl.coalesce(patients, lesions, alone)).to_series()
        merged = pl.Series(merge_groups(groups.to_list(), links), dtype=pl.String)
        linked = merged.is_in(merged.gather(np.unique(links)).implode())
        return pl.select(pl.when(linked).then(merged).otherwise(patients)).to_series()

    def _shared_pictures(self, tables: pl.DataFrame) -> np.ndarray:
        """Rows that name one file, in whatever column of pictures: with the first that does, int [P, 2]."""
        names = [name for name in self._picture_columns() if name in tables.columns]
        long = (
            tables.select(ROW, *names).unpivot(names, index=ROW, value_name=NAME).drop_nulls(NAME).sort(ROW)
        )
        long = long.with_columns(first=pl.col(ROW).first().over(NAME)).filter(pl.col("first") != pl.col(ROW))
        return long.select("first", ROW).to_numpy().astype(np.int64).reshape(-1, 2)

    def _picture_columns(self) -> list[str]:
        """The columns of all choices of pictures."""
        return sorted({name for choice in self.pictures.values() for name in choice.get("columns", ())})

    def _rejected(self, tables: pl.DataFrame) -> pl.Series:
        """Why the choice of pictures or quality control leaves a row out, or null."""
        others = [
            pl.when(pl.col(column).ne_missing(str(word))).then(_not_chosen(self.images, pl.col(column)))
            for column, word in self.pictures.get(self.images or "", {}).get("where", {}).items()
        ]
        rejected = [
            pl.when(pl.col(column).is_in(list(words))).then(pl.format("quality control: {}", pl.col(column)))
            for column, words in (self.reject or {}).items()
        ]
        nothing = pl.repeat(None, pl.len(), dtype=pl.String)
        return tables.select(pl.coalesce(*others, *rejected, nothing)).to_series()

    def _with_paths(
        self, root: Path, tables: pl.DataFrame, rows: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows with the `path` of each picture, or its name where it is missing; and the pictures that none of them names, as
        `path` and why they are left out."""
        packed = self.packed_file(root)
        files = packed_paths(packed) if packed else [file for file in list_images(root) if is_utf8(file)]
        finder = Finder(root, files)
        names = [[name for name in row if name is not None] for row in rows[NAME].to_list()]
        found = [next(filter(None, map(finder.find, row)), None) for row in names]
        if not any(found):
            first = next((row[0] for row in names if row), "nowhere")
            raise InputError(
                f"None of the {len(rows)} pictures that the tables name lies under {root}; the first is named {first}. Is it the "
                "folder that the set was unpacked into?"
            )
        paths = [path or next(iter(row), None) for path, row in zip(found, names, strict=True)]
        rows = rows.with_columns(path=pl.Series(paths, dtype=pl.String))
        lost = pl.Series([path is None for path in found]) & (self.on_missing == "drop")
        unnamed = pl.when(pl.col("path").is_null()).then(pl.lit("no picture named"))
        rows = _leave_out(rows, unnamed.when(lost).then(pl.lit("no such file")))
        spare = [(path, f"copy: of {first}") for path, first in finder.copies.items()]
        known = {*paths, *finder.copies}
        for column in self._picture_columns():
            others = (
                {finder.find(name) for name in tables[column].drop_nulls()}
                if column in tables.columns
                else set()
            )
            why = f"not chosen by images={self.images}: {column}"
            spare += [(path, why) for path in sorted(filter(None, others - known))]
            known |= others
        spare += [(path, "named by no row") for path in files if path not in known]
        finder.refuse_ambiguous()
        return rows, pl.DataFrame(spare, schema={"path": pl.String, LEFT_OUT: pl.String}, orient="row")


def _not_chosen(images: str | None, word: pl.Expr) -> pl.Expr:
    return pl.format("not chosen by images={}: {}", pl.lit(images), word.fill_null("not told"))


def _one_row_a_picture(rows: pl.DataFrame) -> pl.DataFrame:
    """Of rows that name one picture the first stays, or none where their labels differ."""
    rows = rows.with_row_index("place")
    kept = rows.filter(pl.col(LEFT_OUT).is_null())
    told = kept.group_by("path").agg(first=pl.col("place").min(), labels=pl.col("label").unique().sort())
    rows = rows.join(told, on="path", how="left", maintain_order="left")
    differ = pl.col("labels").list.len() > 1
    again = pl.when(pl.col("place") != pl.col("first")).then(pl.lit("its picture is in an earlier row"))
    words = pl.format("same picture with different labels: {}", pl.col("labels").list.join(", "))
    return _leave_out(rows, pl.when(differ).then(words).otherwise(again))


def _in_a_later_split(patient: Sequence[str]) -> pl.Expr:
    """Why a row of the set's own splits would leak: its patient is in a split that is judged later.

    patient: columns of which the first that is not empty names the patient.
    """
    who = pl.coalesce(*patient)
    rank = pl.col("split").replace_strict({name: k for k, name in enumerate(SPLITS)}, default=None)
    last = rank.filter(pl.col(LEFT_OUT).is_null()).max().over(who)
    names = dict(enumerate(SPLITS))
    words = pl.format("its patient is in a later split too: {}", last.replace_strict(names, default=None))
    return pl.when(who.is_not_null() & (rank < last)).then(words)


def _leave_out(rows: pl.DataFrame, reason: pl.Expr) -> pl.DataFrame:
    """Rows with a reason, kept where they have one."""
    return rows.with_columns(pl.coalesce(LEFT_OUT, reason).alias(LEFT_OUT))
