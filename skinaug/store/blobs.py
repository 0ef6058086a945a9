"""What was computed of a picture, kept in one SQLite file: decoded pixels, features. Safe for several processes at once.

A file that a power cut or a full disk has broken is begun anew, and so is every entry whose content is not what was written:
all can be computed again.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

AT_ONCE = 500  # SQLite takes a bounded number of parameters
WAIT_SECONDS = 600.0  # for another process that writes

T = TypeVar("T")


def read_blobs(cache: Path | None, kind: str, names: Sequence[str]) -> dict[str, bytes]:
    """Those of the named entries that are there.

    Args:
        cache: the file; None or a file that does not exist yet: nothing is there.
        kind: what was computed and how.
        names: what it was computed of: SHA-256 of picture files.
    """
    if cache is None or not cache.exists():
        return {}

    def read(connection: sqlite3.Connection) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for start in range(0, len(names), AT_ONCE):
            part = names[start : start + AT_ONCE]
            marks = ",".join("?" * len(part))
            query = f"SELECT name, data, checksum FROM checked WHERE kind = ? AND name IN ({marks})"
            rows = connection.execute(query, [kind, *part])
            found.update((name, data) for name, data, told in rows if zlib.crc32(data or b"") == told)
        return found

    return _with(cache, read)


def write_blobs(cache: Path, kind: str, blobs: Mapping[str, bytes]) -> None:
    """Keep entries; those that are there already are replaced, by what is equal unless they are broken."""

    def write(connection: sqlite3.Connection) -> None:
        with connection:
            rows = ((kind, name, data, zlib.crc32(data)) for name, data in blobs.items())
            connection.executemany("INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?)", rows)

    _with(cache, write)


def _with(cache: Path, use: Callable[[sqlite3.Connection], T]) -> T:
    """What `use` returns of the open file, which is begun anew where it is broken."""
    try:
        return _open(cache, use)
    except sqlite3.OperationalError:
        raise  # a full or read-only disk, or another process that never ends: a new file would not help
    except sqlite3.DatabaseError:
        for ending in ("-journal", ""):  # the journal first: it would be played back into a new file
            cache.with_name(f"{cache.name}{ending}").unlink(missing_ok=True)
        return _open(cache, use)


def _open(cache: Path, use: Callable[[sqlite3.Connection], T]) -> T:
    cache.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(cache, timeout=WAIT_SECONDS)
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS checked (kind TEXT, name TEXT, data BLOB, checksum INTEGER, PRIMARY KEY (kind, name)) "
            "WITHOUT ROWID"
        )
        return use(connection)
    finally:
        connection.close()
