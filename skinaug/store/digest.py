"""Files and folders as short texts that change with their content."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=64)
def folder_digest(folder: Path) -> str:
    """SHA-256 over the relative names and contents of all files below a folder (or of one file), and over its own place.

    Half-written files, which end in .partial, do not count.
    """
    folder = Path(os.path.abspath(folder))
    whole = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial")
    files = [folder] if folder.is_file() else sorted(whole)
    with ThreadPoolExecutor() as pool:
        digests = pool.map(sha256_file, files)
        lines = [f"{digest} {path.relative_to(folder)}" for digest, path in zip(digests, files, strict=True)]
    return hashlib.sha256("\n".join([str(folder), *lines]).encode()).hexdigest()


def folder_size(folder: Path, but: Collection[str] = ()) -> int:
    """Bytes of all files below a folder, but those of some relative names."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files if path.relative_to(folder).as_posix() not in but)
