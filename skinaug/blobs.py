"""What was computed of a picture, kept in one SQLite file: decoded pixels, features. Safe for several processes at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

AT_ONCE = 500  # SQLite takes a bounded number of parameters
WAIT_SECONDS = 600.0  # for another process that writes


def read_blobs(cache: Path | None, kind: str, names: Sequence[str]) -> dict[str, bytes]:
    """Those of the named entries that are there.

    Args:
        cache: the file; None or a file that does not exist yet: nothing is there.
        kind: what was computed and how.
        names: what it was computed of: SHA-256 of picture files.
    """
    if cache is None or not cache.exists():
        return {}
    connection = _connect(cache)
    found: dict[str, bytes] = {}
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        marks = ",".join("?" * len(part))
        query = f"SELECT name, data FROM blobs WHERE kind = ? AND name IN ({marks})"
        found.update(connection.execute(query, [kind, *part]))
    connection.close()
    return found


def write_blobs(cache: Path, kind: str, blobs: Mapping[str, bytes]) -> None:
    """Keep entries; those that are there already stay as they are."""
    connection = _connect(cache)
    with connection:
        rows = ((kind, name, data) for name, data in blobs.items())
        connection.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", rows)
    connection.close()


def _connect(cache: Path) -> sqlite3.Connection:
    cache.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(cache, timeout=WAIT_SECONDS)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS blobs (kind TEXT, name TEXT, data BLOB, PRIMARY KEY (kind, name)) WITHOUT ROWID"
    )
    return connection
