"""Which files below a folder are the user's: what systems, programs and this program itself leave there is passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Folders and files that systems and programs make for themselves, beside those whose names begin with a dot.
LEAVINGS = {
    *("__MACOSX", "__pycache__", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"),
    *("Thumbs.db", "desktop.ini", "Desktop.ini"),
}

_own: set[str] = set()  # real paths


def leave_out(*folders: Path | str) -> None:
    """From now on, pass over these folders wherever they lie below another: the store's and the outputs' own.

    A folder that is walked itself, such as an export among the outputs, is not passed over.
    """
    _own.update(os.path.realpath(folder) for folder in folders)


def walk(root: Path) -> Iterator[str]:
    """Files below `root` as POSIX paths relative to it, in no order; linked folders are not followed."""
    top = os.path.realpath(root)
    for folder, names, files in os.walk(top):
        names[:] = [name for name in names if _is_users(name) and os.path.join(folder, name) not in _own]
        base = PurePosixPath(Path(os.path.relpath(folder, top)).as_posix())
        yield from (str(base / file) for file in files if _is_users(file))


def _is_users(name: str) -> bool:
    return not name.startswith(".") and name not in LEAVINGS
