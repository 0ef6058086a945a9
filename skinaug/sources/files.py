"""Image files below a root folder, listed and looked up by name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from skinaug.errors import InputError, listing, plural
from skinaug.images import SUFFIXES, is_picture
from skinaug.sources.pictures import Finder
from skinaug.sources.tables import METADATA
from skinaug.sources.told import tell
from skinaug.sources.walk import walk


def list_images(root: Path) -> list[str]:
    """Image files below `root` as sorted POSIX paths relative to it, told by their suffix, or by their content where they have
    none; hidden files and linked folders are left out (`walk`)."""
    return sorted(
        name
        for name in walk(root)
        if (suffix := os.path.splitext(name)[1].lower()) in SUFFIXES
        or (not suffix and os.path.isfile(os.path.join(root, name)) and is_picture(os.path.join(root, name)))
    )


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
            f"{plural(len(bad), 'name of image files is', 'names of image files are')} not UTF-8:\n{listing(bad)}\nRename them, or move them elsewhere."
        )


def is_utf8(name: str) -> bool:
    """Whether a name from the file system, where Python keeps other bytes as surrogates, is UTF-8."""
    return name.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def locate(root: Path, images: str, names: Sequence[str | None]) -> list[str | None]:
    """Each name's file as a POSIX path relative to `root`; a name that is nowhere is kept, for the check to report.

    A path that is there is that file. Else the name alone is looked for in all folders: as it stands, without a suffix, in
    another case. Several files of equal content are one. A path whose folder is not there stands for no file that another name
    leads to: two pictures may have one name in two folders. How many were found like that is told.

    Raises:
        InputError: files of other content have the name of one row, listed together.
    """
    prefix = "" if images in ("", ".") else f"{PurePosixPath(images)}/"
    files = [file for file in list_images(root / images) if is_utf8(file)]  # no table can name the others
    exact, finder = set(files), Finder(root / images, files)
    found = {name: name if name in exact else finder.find(name) for name in names if name}
    finder.refuse_ambiguous()
    elsewhere = {name for name in found if "/" in name.replace("\\", "/") and name not in exact}
    uses = Counter(path for path in found.values() if path)
    moved = {name: path for name in sorted(elsewhere) if (path := found[name]) and uses[path] == 1}
    if moved:
        name, path = next(iter(moved.items()))
        tell(
            f"{len(moved):,} paths of the table were found elsewhere, by the file's name: such as {name} at {prefix}{path}."
        )
    if finder.copies:
        copy, first = next(iter(finder.copies.items()))
        tell(
            f"{plural(len(finder.copies), 'file is a copy of another', 'files are copies of others')} with the same name: such as {copy} of {first}."
        )
    found |= dict.fromkeys(elsewhere - moved.keys())
    return [prefix + (found[name] or name.replace("\\", "/")) if name else None for name in names]
