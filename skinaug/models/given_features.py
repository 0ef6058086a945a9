"""Features that were computed elsewhere: vectors by image id, from files, in the place of a network.

Nothing heavy is imported before they take a network's place, so that a bad file costs the time to read it.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from skinaug.errors import InputError, listing, plural
from skinaug.manifest import Manifest

if TYPE_CHECKING:
    from torch import nn

ID, VECTOR = "image_id", "features"
REPEATED = re.compile(r"~\d+$")  # at the end of the id of a photograph that a mix repeats
NPZ_ERRORS = (OSError, ValueError, EOFError, LookupError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)  # fmt: skip
Files = str | Sequence[str]


def given_features(file: Files, num_classes: int) -> nn.Module:
    """What stands in a network's place: a linear layer on given vectors; 0 classes give the vectors themselves.

    Args:
        file: as in `read_features`.
        num_classes: width of the layer, which starts untrained.

    Raises:
        InputError: as `read_features`.
    """
    from skinaug.models.logits import GivenFeatures

    features = read_features(file)
    return GivenFeatures(features, features.vectors.shape[1], num_classes)


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of images. Call it with a Manifest for float32 [N, D] in the manifest's order.

    Attributes:
        rows: row of each image id in `vectors`.
        vectors: float32 [M, D].
        name: of the files, for messages.
    """

    rows: Mapping[str, int]
    vectors: np.ndarray
    name: str

    def __call__(self, images: Manifest) -> np.ndarray:
        """Raises InputError where images have no vector, or several share one."""
        table = images.table
        pools = table["pool"] if "pool" in table.columns else pl.repeat(None, table.height, eager=True)
        found = [self._row(name, pool) for name, pool in zip(table[ID], pools, strict=True)]
        self._refuse_missing([name for name, row in zip(table[ID], found, strict=True) if row is None])
        pairs = pl.DataFrame({"row": found, ID: table[ID], "sha256": table["sha256"]}, strict=False)
        shared = pairs.filter(pl.col("sha256").n_unique().over("row") > 1)
        if shared.height:
            raise InputError(
                f"{self.name} tells one vector for several pictures, of pools that call them alike:\n{listing(shared[ID])}\n"
                "Give each a vector under the id that it has here."
            )
        return self.vectors[np.array(found, np.int64)]

    def __deepcopy__(self, memo: object) -> Features:
        """Itself: copies of networks share the vectors."""
        return self

    def check(self, images: Manifest) -> None:
        """Refuse images that have no vector.

        Raises:
            InputError: tells how many, and which.
        """
        self._refuse_missing([name for name in images.table[ID] if name not in self.rows], len(images))

    def _row(self, name: str, pool: str | None) -> int | None:
        """An image's row, by its id, or by the one that it had before a mix joined its pool to others or repeated it."""
        for known in (name, name.removeprefix(f"{pool}/"), REPEATED.sub("", name)):
            if known in self.rows:
                return self.rows[known]
        return None

    def _refuse_missing(self, missing: Sequence[str], count: int | None = None) -> None:
        if missing:
            of = "" if count is None else f" of {count:,}"
            raise InputError(
                f"{self.name} has no features of {len(missing):,}{of} images:\n{listing(missing)}\nCompute theirs too, and give all files "
                "as a list: [one.parquet,other.npz]. `skinaug export` writes pictures with their image_id."
            )


def feature_files(file: Files) -> list[Path]:
    """The files that a value of the configuration names: one, or several."""
    return [Path(file)] if isinstance(file, str) else [Path(name) for name in file]


def read_features(file: Files) -> Features:
    """The vectors of one or several files, which hold different images.

    Args:
        file: a Parquet file with `image_id` and a column of lists of numbers (`features`, where there are several such), or
            with `image_id` and a column a number; or an NPZ file with `image_id` [M] and one array of vectors [M, D] (`features`,
            where there are several). Ids are text or integers. Pickles are not read.

    Raises:
        InputError: no such file, or one of another form; ids that are missing or there twice; vectors of different lengths, or
            with values that are no finite float32.
    """
    files = feature_files(file)
    if not files:
        raise InputError("No features file is named: give a Parquet or NPZ file of image_id and features.")
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise InputError(
            f"There is no features file {', '.join(missing)}: give Parquet or NPZ files of image_id and features."
        )
    return _read(tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@lru_cache(maxsize=4)
def _read(files: tuple[tuple[Path, int, int], ...]) -> Features:
    """Of files with their times and sizes, so that one that changes is read again."""
    name = ", ".join(str(path) for path, *_ in files)
    parts = [(path, *(_read_npz if path.suffix == ".npz" else _read_parquet)(path)) for path, *_ in files]
    for part in parts:
        _check(*part)
    lengths = [f"{path}: {vectors.shape[1]}" for path, _, vectors in parts]
    if len({vectors.shape[1] for *_, vectors in parts}) > 1:
        raise InputError(
            f"The features have different lengths:\n{listing(lengths)}\nGive those of one network."
        )
    ids = pl.concat([part for _, part, _ in parts])
    _refuse_repeated(name, ids)
    vectors = np.concatenate([part for *_, part in parts])
    return Features({text: row for row, text in enumerate(ids)}, vectors, name)


def _check(path: Path, ids: pl.Series, vectors: np.ndarray) -> None:
    if not len(ids) or not vectors.shape[1]:
        raise InputError(
            f"{path} holds {len(ids)} vectors of {vectors.shape[1]} numbers: there must be some."
        )
    if ids.null_count():
        raise InputError(
            f"{path} has {plural(ids.null_count(), 'row')} without an image_id: give each its own."
        )
    _refuse_repeated(str(path), ids)
    bad = ids.filter(pl.Series(~np.isfinite(vectors).all(1)))
    if len(bad):
        raise InputError(
            f"{path} has {len(bad):,} vectors with values that are missing, infinite or no number:\n{listing(bad)}\nCompute them "
            "again, or leave the images out."
        )


def _refuse_repeated(name: str, ids: pl.Series) -> None:
    twice = ids.filter(ids.is_duplicated()).unique(maintain_order=True)
    if len(twice):
        raise InputError(
            f"{name} names {plural(len(twice), 'image')} more than once:\n{listing(twice)}\nKeep one vector of each."
        )


def _read_parquet(path: Path) -> tuple[pl.Series, np.ndarray]:
    """Ids as text, and float32 [M, D]."""
    try:
        table = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"{path} is no Parquet file that can be read: {str(error).splitlines()[0]}."
        ) from error
    if ID not in table.columns or not _is_id(table.schema[ID]):
        raise InputError(
            f"{path} has no column {ID} of text or integers; its columns are {', '.join(table.columns) or 'none'}. Name the images "
            "in one, as `skinaug export` does."
        )
    columns = {name: dtype for name, dtype in table.schema.items() if name != ID}
    lists = [name for name, dtype in columns.items() if _is_vector(dtype)]
    ids = table[ID].cast(pl.String)
    if lists:
        return ids, _stack(path, table[_only(path, lists, "columns of lists")], ids)
    others = [name for name, dtype in columns.items() if not dtype.is_numeric()]
    if others or not columns:
        raise InputError(
            f"{path} has neither a column of lists of numbers nor numeric columns alone beside {ID}: "
            f"{', '.join(others) or 'nothing'}. Name the column of vectors {VECTOR}, or leave out what is no feature."
        )
    numbers = table.select(pl.col(list(columns)).cast(pl.Float64, strict=False))
    return ids, _float32(numbers.fill_null(float("nan")).to_numpy())


def _is_id(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)


def _is_vector(dtype: pl.DataType) -> bool:
    """Whether a column's values are lists of numbers, of one length or not."""
    return isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_numeric()  # type: ignore[union-attr]


def _only(path: Path, names: Sequence[str], what: str) -> str:
    """The one that holds the vectors."""
    if len(names) > 1 and VECTOR not in names:
        raise InputError(
            f"{path} has several {what}, {', '.join(names)}: call the one that holds the vectors {VECTOR}."
        )
    return VECTOR if VECTOR in names else names[0]


def _stack(path: Path, column: pl.Series, ids: pl.Series) -> np.ndarray:
    """A column of lists as float32 [M, D]; numbers that are missing are NaN.

    Raises:
        InputError: lists of different lengths, or none.
    """
    lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
    lengths = lists.list.len().fill_null(0)
    usual = lengths.mode().sort()
    odd = ids.filter(lengths != usual[-1]) if len(usual) else ids
    if len(odd):
        known = ", ".join(map(str, lengths.unique().sort()))
        raise InputError(
            f"The vectors of {path} have different lengths, {known}; unlike most are those of {len(odd):,} images:\n{listing(odd)}\n"
            "Give all of one network."
        )
    if not len(lists) or not usual[-1]:
        return np.empty((len(lists), 0), np.float32)
    flat = lists.explode().cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    return _float32(flat.reshape(len(lists), -1))


def _read_npz(path: Path) -> tuple[pl.Series, np.ndarray]:
    """Ids as text, and float32 [M, D]."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it holds one array without a name")
        with loaded as file:
            arrays = {name: file[name] for name in file.files}
    except NPZ_ERRORS as error:
        raise InputError(
            f"{path} is no NPZ file of plain arrays that can be read: {error}. Save one with numpy.savez(path, image_id=ids, "
            "features=vectors), the ids as text: pickles are not read."
        ) from error
    ids = arrays.pop(ID, None)
    if ids is None or ids.ndim != 1 or ids.dtype.kind not in "USiu":
        raise InputError(
            f"{path} has no array {ID} [M] of text or integers; it holds {_shapes(arrays, ids)}. Save one with numpy.savez(path, "
            "image_id=ids, features=vectors)."
        )
    tables = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiu"]
    if not tables:
        raise InputError(
            f"{path} has no array of vectors [M, D] beside {ID}; it holds {_shapes(arrays, ids)}. Save one as {VECTOR}."
        )
    vectors = arrays[_only(path, tables, "arrays [M, D]")]
    if len(vectors) != len(ids):
        raise InputError(f"{path} has {len(ids):,} ids and {len(vectors):,} vectors: give each image one.")
    try:
        text = np.char.decode(ids, "utf-8") if ids.dtype.kind == "S" else ids.astype(str)
    except UnicodeDecodeError as error:
        raise InputError(f"The ids of {path} are no UTF-8: {error}.") from error
    return pl.Series(ID, text.tolist(), pl.String), _float32(vectors)


def _shapes(arrays: Mapping[str, np.ndarray], ids: np.ndarray | None) -> str:
    held = arrays if ids is None else {ID: ids, **arrays}
    return ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in held.items()) or "nothing"


def _float32(numbers: np.ndarray) -> np.ndarray:
    """Contiguous; numbers beyond its range are infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(numbers, np.float32)
