"""The tables of a published set: found below its root, read whatever separates their values, and joined."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl

from skinaug.errors import InputError, listing
from skinaug.sources.tables import read_csv

SEPARATORS = ",\t;"
SHEET = ("file", "key", "split", "optional")
ROW, SPLIT = "@row", "@split"  # columns that no table has


def check_sheets(sheets: Sequence[Mapping[str, Any]]) -> None:
    """Raise an InputError of a sheet that is told by other words than those of SHEET."""
    if unknown := sorted({str(name) for sheet in sheets for name in sheet} - set(SHEET)):
        raise InputError(f"source.sheets has {', '.join(unknown)}; a sheet has {', '.join(SHEET)}.")


def join_sheets(root: Path, sheets: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The rows of all tables, as text; in ROW the number of each, from 0, and in SPLIT the split that its table is, or null.

    Args:
        root: the folder that the tables lie in, or below.
        sheets: as `published.Tables` has them.

    Raises:
        InputError: a table that is not there and not optional, one without the column that it is joined by, or with several rows
            of one key.
    """
    stacked, joined = list[pl.DataFrame](), list[tuple[str, pl.DataFrame]]()
    for sheet in sheets:
        names, key = listed(sheet["file"]), sheet.get("key")
        absent_key = key and sheet.get("optional") and not any(key in part.columns for part in stacked)
        file = None if absent_key else find_file(root, names)
        if file is None and not sheet.get("optional"):
            raise no_file(root, names)
        if file is None:
            continue
        if key:
            joined.append((key, _with_key(read_table(file), key, file)))
        else:
            stacked.append(read_table(file).with_columns(pl.lit(sheet.get("split"), pl.String).alias(SPLIT)))
    if not stacked:
        raise no_file(root, [name for sheet in sheets for name in listed(sheet["file"])])
    rows = pl.concat(stacked, how="diagonal").with_row_index(ROW)
    for key, other in joined:
        twice = [name for name in other.columns if name in rows.columns and name != key]
        rows = rows.join(other, on=key, how="left", suffix="@", maintain_order="left")
        rows = rows.with_columns(pl.coalesce(name, f"{name}@").alias(name) for name in twice)
    return rows


def read_row_numbers(root: Path, files: Mapping[str, str], count: int) -> list[str | None]:
    """The split of each of `count` rows, by files that list their numbers, from 0; null where none does.

    Raises:
        InputError: a file that is not there, or holds something else.
    """
    splits: list[str | None] = [None] * count
    for split, name in files.items():
        file = find_file(root, [name])
        if file is None:
            raise no_file(root, [name], "or set source.own_splits=false")
        column = read_csv(file).to_series()
        numbers = column.cast(pl.Int64, strict=False)
        if not numbers.is_between(0, count - 1).fill_null(False).all():
            words = ", ".join(map(str, column[:5]))
            raise InputError(f"{file} must list numbers of rows, 0 to {count - 1}; it has {words} ...")
        for number in numbers:
            splits[number] = split
    return splits


def read_pairs(root: Path, pairs: Mapping[str, Any], rows: pl.DataFrame, name: str) -> np.ndarray:
    """Pairs of rows, int [P, 2], that a table tells by the values of their column `name`; those of which one is unknown are left.

    Args:
        pairs: `file` and its two `columns`.
        rows: with ROW.

    Raises:
        InputError: no such file, or it lacks the columns.
    """
    file = find_file(root, [pairs["file"]])
    if file is None:
        raise no_file(root, [pairs["file"]], "or do without it by source.pairs=null")
    table = read_table(file)
    if missing := [column for column in pairs["columns"] if column not in table.columns]:
        raise InputError(f"{file} lacks {', '.join(missing)}; it has {', '.join(table.columns)}.")
    first, second = (
        table.select(column)
        .with_row_index("pair")
        .join(rows.select(ROW, name), left_on=column, right_on=name)
        for column in pairs["columns"]
    )
    return first.join(second, on="pair").select(ROW, f"{ROW}_right").to_numpy().astype(np.int64)


def listed(names: str | Sequence[str]) -> list[str]:
    """One or several names as a list."""
    return [names] if isinstance(names, str) else list(names)


def find_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first of some files that is in the root, else in a folder below it.

    Raises:
        InputError: several files of one name differ.
    """
    known: dict[str, list[Path]] = {}
    for name in names:
        if (root / name).is_file():
            return root / name
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for file in files:
            known.setdefault(file, []).append(Path(folder) / file)
    for name in names:
        parts = PurePosixPath(name).parts
        found = [path for path in known.get(parts[-1], ()) if path.parts[-len(parts) :] == parts]
        if any(not filecmp.cmp(found[0], path, shallow=False) for path in found[1:]):
            raise InputError(
                f"{root} holds several different files {name}:\n{listing(map(str, found))}\nRemove those that are not meant."
            )
        if found:
            return found[0]
    return None


def no_file(root: Path, names: Sequence[str], advice: str = "") -> InputError:
    """What to say of a file that is not there. advice: what to do other than put it there."""
    words = f"There is no file {' or '.join(dict.fromkeys(names))} under {root}. Is it the folder that the set was unpacked into?"
    return InputError(f"{words} Put it there, {advice}." if advice else words)


def read_table(file: Path) -> pl.DataFrame:
    """A table as text, its values separated by what its first line has most of; empty values are null.

    Raises:
        InputError: as `read_csv`.
    """
    with file.open(encoding="utf-8", errors="replace") as lines:
        header = lines.readline()
    table = read_csv(file, max(SEPARATORS, key=header.count))
    table = table.rename({name: name.strip() for name in table.columns})
    text = pl.all().str.strip_chars()
    return table.with_columns(pl.when(text != "").then(text).name.keep())


def _with_key(table: pl.DataFrame, key: str, file: Path) -> pl.DataFrame:
    if key not in table.columns:
        raise InputError(f"{file} lacks the column {key}; it has {', '.join(table.columns)}.")
    twice = table.drop_nulls(key).filter(pl.col(key).is_duplicated())[key].unique(maintain_order=True)
    if len(twice):
        raise InputError(f"{file} has several rows of one {key}:\n{listing(twice)}\nLeave one of each.")
    return table
