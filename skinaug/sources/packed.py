"""Pictures that come in one HDF5 file: a data set a picture, named by its id, holding the bytes of a JPEG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from skinaug.errors import InputError

FOLDER = "pictures"  # below the artifact, where they are unpacked


def packed_paths(file: Path) -> list[str]:
    """Where the pictures of a file will lie, as paths relative to the folder that they are unpacked into.

    Raises:
        InputError: h5py is not installed, or the file is no HDF5 file.
    """
    with _open(file) as pictures:
        return [f"{FOLDER}/{name}.jpg" for name in pictures]


def unpack(file: Path, paths: Sequence[str], out: Path) -> None:
    """Write the pictures of some paths, as `packed_paths` tells them, below `out`, byte for byte as they are packed.

    Raises:
        InputError: as `packed_paths`.
    """
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    with _open(file) as pictures:
        for path in paths:
            name = PurePosixPath(path).name
            (out / FOLDER / name).write_bytes(_bytes(pictures[name.removesuffix(".jpg")][()]))


def _bytes(value: Any) -> bytes:
    """A picture as h5py reads it: text of fixed length, opaque, numbers 0 to 255, or of any length."""
    return value if isinstance(value, bytes) else np.asarray(value).tobytes()


def _open(file: Path) -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise InputError(
            f"{file} is an HDF5 file, and h5py is not installed: pip install 'skinaug[hdf5]', or unpack the set's folder of "
            "JPEG files beside it."
        ) from error
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{file} cannot be read as an HDF5 file: {error}") from error
