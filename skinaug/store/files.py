"""Files that other programs read while we write them, and paths that others gave us."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from skinaug.errors import InputError, printable

FULL = 2**20  # free bytes below which a disk is full
FULL_DISK = (
    "No space left",
    "disk is full",
    "quota exceeded",
    "PytorchStreamWriter failed",
)  # by whoever tells


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) whole or not at all: a reader finds the old content or the new, never a part.

    Args:
        path: in a folder that exists; what is there is replaced. `<name>.partial` beside it must be free.
        text: the whole content.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def flush(place: Path) -> None:
    """Send a file, or all files of a folder and its lists of names, to the disk: what is written afterwards can say that they are
    whole."""
    for path in (*place.rglob("*"), place):
        flush_one(path)


def flush_one(path: Path) -> None:
    """Send a file, or a folder's own list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def telling_full_disk(folder: Path) -> Iterator[None]:
    """Tell of whatever a full disk has broken below, in the words of each library, in one message.

    Raises:
        InputError: the disk of `folder` is full.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not any(words in str(error) for words in FULL_DISK) and shutil.disk_usage(folder).free >= FULL:
            raise
        raise InputError(
            f"The disk of {folder} is full ({printable(str(error))[:200]}). Free some space (`skinaug store gc` lists what nobody "
            "uses) and run the same command again: it goes on where it stopped."
        ) from error


def strays(root: Path, paths: Sequence[str]) -> list[int]:
    """Numbers of the paths that lead out of a folder: by `..`, as absolute paths, or by a link in them.

    Args:
        root: the folder; itself it may be a link.
        paths: relative to it; files need not exist.
    """
    top = os.path.join(os.path.realpath(root), "")
    real: dict[str, str] = {}  # folder -> without links: looked up once for all its files
    found = []
    for number, path in enumerate(paths):
        folder, name = os.path.split(os.path.join(root, path))
        if folder not in real:
            real[folder] = _real(folder)
        place = os.path.join(real[folder], name)
        if name in ("", ".", "..") or os.path.islink(place):
            place = _real(place)
        if not place.startswith(top):
            found.append(number)
    return found


def _real(path: str) -> str:
    """A path without links and `..`; one with a zero byte, which names no file, as it is."""
    return path if "\0" in path else os.path.realpath(path)
