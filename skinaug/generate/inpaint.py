"""What mode inpaint asks for: where on a photograph a lesion is drawn, and whose photographs may be its parents. Imports no NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinaug.errors import InputError

FOUND, COLUMN, DRAWN = "found", "column", "drawn"
MASKS = (FOUND, COLUMN, DRAWN)
SAME, ANY = "same", "any"
ON_BAD = ("fail", "drop")


@dataclass(frozen=True)
class Inpaint:
    """Where lesions are drawn, and on whose skin.

    A picture's label is the class that was asked for. So a lesion of another class must not be left in it: a parent is of the same
    class, of a class that shows clean skin, or its own lesion lies whole inside the mask, is known from the data's masks rather than
    estimated, and nothing of it goes into the drawing (strength 1).

    Args:
        mask: found, the lesion that the parent's pixels show (`metrics.skin`); column, that of the data's column `mask`; drawn, an
            ellipse on clean skin, from the picture's seed; or a folder of masks that are named as the photographs are, white where
            the lesion shall be.
        parent_classes: same, photographs of the class that is asked for; any, of all classes; or the names of the classes whose
            photographs show no lesion.
        margin: how far a mask reaches beyond the lesion that was found or that the column shows, as share of the picture's side.
        feather: width of the soft edge inside the mask, as share of the side.
        diameter: of drawn ellipses, least and most, as share of the side.
        on_bad: fail, or drop: photographs whose given mask cannot be used are no parents.

    Raises:
        InputError: all values that cannot be.
    """

    mask: str = FOUND
    parent_classes: str | Sequence[str] = SAME
    margin: float = 0.03
    feather: float = 0.02
    diameter: Sequence[float] = (0.15, 0.4)
    on_bad: str = "fail"

    def __post_init__(self) -> None:
        if problems := list(_problems(self)):
            raise InputError("\n".join(problems))

    @property
    def folder(self) -> Path | None:
        """The folder of given masks, None where they come from elsewhere."""
        return None if self.mask in MASKS else Path(self.mask)

    def labels(self, label: str, classes: Sequence[str]) -> list[str]:
        """The classes whose photographs may be parents of a picture of a class."""
        if isinstance(self.parent_classes, str):
            return [label] if self.parent_classes == SAME else list(classes)
        return list(self.parent_classes)

    def told(self) -> dict[str, Any]:
        """What of it decides a picture besides parent and given mask, and stands in the pool's table."""
        about = {"mask_from": "folder" if self.folder else self.mask, "mask_feather": float(self.feather)}
        if self.mask in (FOUND, COLUMN):
            about["mask_margin"] = float(self.margin)
        if self.mask == DRAWN:
            about |= {"mask_margin": float(self.margin), "mask_diameter": list(map(float, self.diameter))}
        return about


def check_rule(inpaint: Inpaint, strength: float, format: str) -> list[str]:
    """What is wrong with drawing so, besides `Inpaint`'s own values."""
    problems = []
    if format == "jpeg":
        problems.append(
            "generate.format=jpeg: it would change the parent's pixels outside the mask. Use png or webp."
        )
    if inpaint.parent_classes != ANY:
        return problems
    if inpaint.mask in (FOUND, DRAWN):
        left = "an estimate misses parts of lesions" if inpaint.mask == FOUND else "it lies beside the lesion"
        problems.append(
            f"generate.inpaint.parent_classes=any with mask={inpaint.mask}: {left}, so the old lesion would stay in a picture of another "
            "class. Give the lesions' masks (mask=column), or use parent_classes=same, or the names of classes with clean skin."
        )
    if strength < 1:
        problems.append(
            f"generate.strength={strength:g} with generate.inpaint.parent_classes=any: the drawing would start from a lesion of another "
            "class. Use strength=1, which starts from noise, or parent_classes=same."
        )
    return problems


def check_sources(inpaint: Inpaint, columns: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse masks and classes that the data do not have. columns: of the photographs' table.

    Raises:
        InputError: no such column, folder or class; a folder of masks for parents of any class whose own lesions nobody knows.
    """
    problems = []
    names = [] if isinstance(inpaint.parent_classes, str) else inpaint.parent_classes
    if unknown := [name for name in names if name not in classes]:
        problems.append(
            f"generate.inpaint.parent_classes names {', '.join(unknown)}, and the data have {', '.join(classes)}. Name the classes whose "
            "photographs show no lesion, or choose same or any."
        )
    if inpaint.mask == COLUMN and "mask" not in columns:
        problems.append(
            "generate.inpaint.mask=column, and the data have no column `mask`: paths of black and white pictures. Map one with "
            "+dataset.source.columns.mask=<column>, or use mask=found, drawn or a folder."
        )
    if inpaint.folder and inpaint.parent_classes == ANY and "mask" not in columns:
        problems.append(
            "generate.inpaint.parent_classes=any: whether the folder's masks cover the parents' own lesions can only be told by the data's "
            "column `mask`, which they lack. Where the folder's masks are the lesions themselves, name them in that column and use "
            "mask=column; else use parent_classes=same."
        )
    if problems:
        raise InputError("\n".join(problems))


def check_folder_of_masks(inpaint: Inpaint) -> None:
    """Refuse a folder of masks that is not there."""
    if inpaint.folder and not inpaint.folder.is_dir():
        raise InputError(
            f"generate.inpaint.mask={inpaint.mask}: there is no such folder, and it is none of {', '.join(MASKS)}."
        )


def _problems(inpaint: Inpaint) -> list[str]:
    values: Mapping[str, Any] = vars(inpaint)
    problems = []
    if not isinstance(inpaint.mask, str) or not inpaint.mask:
        problems.append(f"generate.inpaint.mask must be {', '.join(MASKS)} or a folder, got {inpaint.mask!r}")
    classes = inpaint.parent_classes
    listed = (
        isinstance(classes, Sequence) and bool(classes) and all(isinstance(name, str) for name in classes)
    )
    if not listed or (isinstance(classes, str) and classes not in (SAME, ANY)):
        problems.append(
            f"generate.inpaint.parent_classes must be {SAME}, {ANY} or a list of classes that show clean skin, got {classes!r}"
        )
    problems += [
        f"generate.inpaint.{name} must be a share of the picture's side from 0 to 0.25, got {values[name]!r}"
        for name in ("margin", "feather")
        if not _share(values[name], 0, 0.25)
    ]
    sides = inpaint.diameter
    pair = isinstance(sides, Sequence) and len(sides) == 2 and all(_share(side, 0.02, 0.9) for side in sides)
    if not pair or sides[0] > sides[1]:
        problems.append(
            f"generate.inpaint.diameter must be two shares of the picture's side in order, from 0.02 to 0.9, got {sides!r}"
        )
    if inpaint.on_bad not in ON_BAD:
        problems.append(f"generate.inpaint.on_bad must be {' or '.join(ON_BAD)}, got {inpaint.on_bad!r}")
    return problems


def _share(value: object, low: float, high: float) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and low <= value <= high
