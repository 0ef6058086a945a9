"""The folder that images are read from: whether it can be, and what changes when its content does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from skinaug.errors import InputError
from skinaug.sources.files import list_images
from skinaug.sources.sources import Source
from skinaug.sources.walk import walk


def check_root(source: Source, root: str | None, stage: str) -> Path | None:
    """The absolute root folder; None for a source that renders its images. Cheap, so that a typing error shows at once.

    stage: whose option `root` is, for messages: dataset or generate.

    Raises:
        InputError: the root is not given, does not exist, is no folder, cannot be read, or holds no images; or it is given
            to a source that would render into it.
    """
    advice = f"Set {stage}.root=<folder> to the folder that holds the images."
    if common := getattr(source, "common_root", None):  # of several sets with roots of their own
        if root is not None and Path(root) != common():
            raise InputError(
                f"{stage}.root={root} is given, and each of the sets has its own: {stage}.<name>.root=<folder>."
            )
        return common()
    if not source.needs_root:
        if root is None:
            return None
        raise InputError(
            f"{type(source).__name__} renders its images and reads no folder, but {stage}.root={root} is given. "
            f"Choose {stage}=folder or {stage}=csv for images of your own, or leave the root out."
        )
    if not root:
        raise InputError(f"{stage} is read from a folder, and none is given. {advice}")
    return check_folder(root, advice, packed=getattr(source, "packed", None))


def check_folder(root: str, advice: str, packed: str | None = None) -> Path:
    """The absolute folder, as `check_root`.

    advice: what to do where it cannot be used. packed: a file that may hold the images in the place of folders.
    """
    path = Path(os.path.abspath(os.path.expanduser(root)))
    if not path.exists():
        raise InputError(f"The folder {path} does not exist. {advice}")
    if not path.is_dir():
        raise InputError(f"{path} is a file, not a folder. {advice}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise InputError(f"The folder {path} cannot be read: change its permissions. {advice}")
    if not list_images(path) and not (packed and any(path.rglob(packed))):
        from skinaug.sources.noticed import not_read, unread

        others = unread(path, ())
        told = f" {not_read(others)}" if others else ""
        raise InputError(
            f"The folder {path} holds no images (linked folders are not followed). {advice}{told}"
        )
    return path


def image_folder(source: Source, root: Path, paths: Sequence[str], out: Path) -> Path:
    """The folder that a source's images lie in: the root, or `out`, where a source that keeps them packed unpacks these paths."""
    unpack = getattr(source, "unpack", None)
    return root if unpack is None else unpack(root, paths, out)


def root_digest(root: Path, source: object = None) -> str:
    """SHA-256 of the names, sizes and modification times of the files below a folder that a source reads: images and its
    `tables`; of one that does not tell its tables, all files that are the user's (`walk`)."""
    if digest := getattr(source, "digest", None):
        return digest()
    tables = getattr(source, "tables", None)
    names = list(walk(root)) if tables is None else {*list_images(root), *tables(root)}
    files = sorted(path for name in names if (path := root / name).is_file())
    stats = [
        (path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files
    ]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()
