"""Masks that lie among photographs: a set's segmentations beside or below its pictures, which no classifier should learn from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from PIL import Image

from skinaug.errors import InputError, listing

CHOICES = ("fail", "drop", "keep")
TWIN = re.compile(r"(.+)[_ -](masks?|segmentations?|seg|lesion|superpixels?)", re.IGNORECASE)
CODED = ("superpixel", "superpixels")  # numbers as colours: such twins are masks though they have many
NEAR = 15  # units of 8 bits from black or white that compression leaves of either
SHARE = 0.97  # of pixels that are so in a black and white picture that was compressed
LEAST = 0.001  # share of pixels that either has
GREY = 8  # units that the channels of grey differ in at most, compressed or not
SAMPLED = 64  # pixels a side that tell whether there is colour


class Read(Protocol):
    """What is known of a picture, as `check.Picture` has it."""

    @property
    def two_valued(self) -> bool: ...
    @property
    def colourless(self) -> bool: ...


def find_masks(paths: Sequence[str], pictures: Sequence[Read | None]) -> dict[str, str]:
    """Why each path is taken for a mask: it has two values, or it is a twin by name (`IMG_1_mask` beside `IMG_1`, in whatever
    folder) without colour. A twin in colour, such as a close-up called `_lesion`, is a photograph.

    Args:
        paths: POSIX, of one set.
        pictures: what was read of each; None: nothing could be.
    """
    stems = {PurePosixPath(path).stem.lower(): path for path in paths}
    found = {}
    for path, picture in zip(paths, pictures, strict=True):
        if picture is None:
            continue
        named = TWIN.fullmatch(PurePosixPath(path).stem)
        twin = stems.get(named[1].lower()) if named else None
        if twin and named and (picture.colourless or named[2].lower() in CODED):
            found[path] = f"of {twin}"
        elif picture.two_valued:
            found[path] = "two values alone"
    return found


def refuse_or_drop_masks(found: Mapping[str, str], masks: str, total: int) -> None:
    """Stop for masks unless they are to be dropped.

    Args:
        found: `find_masks`.
        masks: "fail" or "drop".
        total: how many pictures there are.

    Raises:
        InputError: there are masks and `masks` is "fail", or nothing else is there.
    """
    if not found or (masks == "drop" and len(found) < total):
        return
    lines = [f"{path}: {why}" for path, why in found.items()]
    advice = "Leave them out with masks=drop, or say that they are photographs with masks=keep."
    raise InputError(
        f"{len(found)} of {total} pictures are masks, not photographs:\n{listing(lines)}\n{advice}"
    )


def check_choice(masks: str, option: str) -> None:
    """Refuse another word than `CHOICES`. option: its full name, for the message."""
    if masks not in CHOICES:
        raise InputError(f"{option}={masks}: choose {', '.join(CHOICES[:-1])} or {CHOICES[-1]}.")


def is_colourless(image: Image.Image) -> bool:
    """Whether an RGB picture has nothing but greys."""
    few = image.resize([min(side, SAMPLED) for side in image.size], Image.Resampling.NEAREST)
    pixels = np.asarray(few, np.int16)
    return bool((pixels.max(-1) - pixels.min(-1)).max() <= GREY)


def is_two_valued(image: Image.Image, colourless: bool) -> bool:
    """Whether an RGB picture has two colours, or is black and white but for what compression leaves. One colour is none of these."""
    if colours := image.getcolors(2):
        return len(colours) == 2
    if not colourless:
        return False
    counts = np.array(image.convert("L").histogram())
    dark, bright = counts[: NEAR + 1].sum(), counts[-NEAR - 1 :].sum()
    return bool(dark + bright >= SHARE * counts.sum() and min(dark, bright) >= LEAST * counts.sum())
