"""The picture of each name in a table, whatever folder, suffix or case it has got on somebody's disk."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from skinaug.errors import InputError, listing, plural


class Finder:
    """Finds pictures by name: as it stands, else without a suffix, else in another case; in the folder that the name tells where
    one of that name lies there, else in any.

    Attributes:
        root: the folder.
        copies: path of each further copy of a picture that was found, to the path of the one that stands for it.
    """

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        """files: all pictures below `root`, relative to it."""
        self.root = root
        self.copies: dict[str, str] = {}
        self._ambiguous: dict[str, Sequence[str]] = {}
        names = _by(files, _name)
        stems = _by(files, _stem)
        self._lookups: list[tuple[Mapping[str, Sequence[str]], Callable[[str], str]]] = [
            (names, _name),
            (stems, _name),  # an id, which may hold dots
            (stems, _stem),
            *(
                (_in_any_case(index), _lower(key))
                for index, key in ((names, _name), (stems, _name), (stems, _stem))
            ),
        ]

    def find(self, name: str) -> str | None:
        """The path of a name's picture, relative to the root; None where there is none.

        Several files of equal content are one. Those of which the content differs are told by `refuse_ambiguous`.
        """
        found = self._candidates(name.replace("\\", "/"))
        if len(found) > 1:
            first, *others = (self.root / path for path in found)
            if all(filecmp.cmp(first, other, shallow=False) for other in others):
                self.copies |= dict.fromkeys(found[1:], found[0])
            else:
                self._ambiguous[name] = found
        return found[0] if found else None

    def refuse_ambiguous(self) -> None:
        """Raise an InputError that lists the names which fit several pictures, if there are any."""
        if self._ambiguous:
            lines = [f"{name}: {', '.join(paths)}" for name, paths in self._ambiguous.items()]
            raise InputError(
                f"{plural(len(lines), 'name in the tables fits', 'names in the tables fit')} several different pictures under {self.root}:\n{listing(lines)}"
                "\nRemove the pictures that are not meant, such as those of another size."
            )

    def _candidates(self, name: str) -> Sequence[str]:
        found = next((index[key(name)] for index, key in self._lookups if key(name) in index), ())
        folders = PurePosixPath(name).parts[:-1]
        inside = [
            path for path in found if folders and PurePosixPath(path).parts[:-1][-len(folders) :] == folders
        ]
        return inside or found


def _by(files: Sequence[str], key: Callable[[str], str]) -> Mapping[str, Sequence[str]]:
    index: dict[str, list[str]] = defaultdict(list)
    for file in files:
        index[key(file)].append(file)
    return index


def _in_any_case(index: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    joined: dict[str, list[str]] = defaultdict(list)
    for name, files in index.items():
        joined[name.lower()] += files
    return joined


def _lower(key: Callable[[str], str]) -> Callable[[str], str]:
    return lambda path: key(path).lower()


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _stem(path: str) -> str:
    return PurePosixPath(path).stem
