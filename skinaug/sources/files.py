"""Image files below a root folder, listed and looked up by name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from skinaug.errors import InputError, listing
from skinaug.images import SUFFIXES
from skinaug.sources.tables import METADATA
from skinaug.sources.walk import walk


def list_images(root: Path) -> list[str]:
    """Image files below `root` as sorted POSIX paths relative to it; hidden files and linked folders are left out (`walk`)."""
    return sorted(file for file in walk(root) if os.path.splitext(file)[1].lower() in SUFFIXES)


def metadata_files(root: Path) -> list[Path]:
    """The tables of an ImageFolder below `root`, sorted."""
    return sorted(root / file for file in walk(root) if PurePosixPath(file).name in METADATA)


def unlisted(images: str, names: Iterable[str]) -> list[str]:
    """Of what a table names below the folder `images`, that which `list_images` may not show: hidden, or of another suffix."""
    return [
        (PurePosixPath(images) / name).as_posix()
        for name in names
        if not name.startswith("/")
        and ".." not in PurePosixPath(name).parts
        and "\0" not in name
        and ("/." in f"/{name}" or os.path.splitext(name)[1].lower() not in SUFFIXES)
    ]


def refuse_names(paths: Sequence[str]) -> None:
    """Raise an InputError that lists the names which are not UTF-8: no table could hold them."""
    bad = [path for path in paths if not is_utf8(path)]
    if bad:
        raise InputError(
            f"{len(bad)} names of image files are not UTF-8:\n{listing(bad)}\nRename them, or move them elsewhere."
        )


def is_utf8(name: str) -> bool:
    """Whether a name from the file system, where Python keeps other bytes as surrogates, is UTF-8."""
    return name.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def locate(root: Path, images: str, names: Sequence[str]) -> list[str]:
    """Each name's file as a POSIX path relative to `root`; a name that is nowhere is kept, for the check to report.

    Raises:
        InputError: several files have the stem of one name, listed together.
    """
    prefix = "" if images in ("", ".") else f"{PurePosixPath(images)}/"
    files = [file for file in list_images(root / images) if is_utf8(file)]  # no table can name the others
    exact = set(files)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_stem[PurePosixPath(file).stem].append(file)
    found, ambiguous = [], []
    for name in names:
        name = name if name in exact else name.replace("\\", "/")
        candidates = () if name in exact or "/" in name else _by_stem(by_stem, name)
        if len(candidates) > 1:
            ambiguous.append(f"{name}: {', '.join(candidates)}")
        found.append(prefix + (candidates[0] if candidates else name))
    if ambiguous:
        raise InputError(
            f"{len(ambiguous)} names in the table fit several files under {root / images}:\n{listing(ambiguous)}"
            "\nGive paths with their folder, or remove the files that are not meant."
        )
    return found


def _by_stem(by_stem: Mapping[str, list[str]], name: str) -> Sequence[str]:
    """Files whose stem is the whole name (an id without an extension), else the name without its extension."""
    return by_stem.get(name) or by_stem.get(os.path.splitext(name)[0]) or ()
