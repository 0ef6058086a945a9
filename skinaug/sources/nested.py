"""Folders below those that are taken for classes: a sign that the root is one folder too high, or too low."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from skinaug.errors import printable

EXAMPLES = 5  # folders that are named


def inside_classes(root: Path, paths: Sequence[PurePosixPath], depth: int) -> str:
    """What to tell of classes whose images all lie in several folders below them; "" where there are none.

    Where all images are of one class, the folder that may be meant as the root is named.

    Args:
        root: for messages.
        paths: of the images, relative to `root`.
        depth: where in a path its class stands; not 0 below folders of splits.
    """
    if not paths:
        return ""
    classes = Counter(path.parts[depth] for path in paths)
    common = PurePosixPath(os.path.commonpath([path.parent for path in paths]))
    if len(common.parts) > depth:  # of all images: one class, or archives within archives
        within = {str(common): _folders(paths, len(common.parts))}
    else:
        within = {
            name: _folders([path for path in paths if path.parts[depth] == name], depth + 1)
            for name in classes
        }
    held = [
        f"{printable(name)} holds {_counted(folders)}" for name, folders in within.items() if len(folders) > 1
    ]
    if not held:
        return ""
    more = f", and {len(held) - EXAMPLES} more hold folders" if len(held) > EXAMPLES else ""
    found = "1 class is" if len(classes) == 1 else f"{len(classes)} classes are"
    told = f"{found} found, {_counted(classes)}, and what lies in folders below counts to them: {'; '.join(held[:EXAMPLES])}{more}."
    if len(classes) == 1 and not depth:
        return f"{told} If these are the classes, did you mean root={printable(str(root / common))}?"
    return told


def above(root: Path) -> str:
    """What to tell where all images lie in the root itself, with a blank in front."""
    return f" If {printable(root.name)} is itself a class, give the folder above it: {printable(str(root.parent))}."


def _folders(paths: Sequence[PurePosixPath], depth: int) -> Counter[str]:
    """Images by the folder at a depth; empty where some lie in none."""
    inside = [path.parts[depth] for path in paths if len(path.parts) > depth + 1]
    return Counter(inside if len(inside) == len(paths) else ())


def _counted(folders: Counter[str]) -> str:
    named = [f"{printable(name)} ({count:,})" for name, count in sorted(folders.items())]
    more = f" and {len(named) - EXAMPLES} more" if len(named) > EXAMPLES else ""
    return ", ".join(named[:EXAMPLES]) + more
