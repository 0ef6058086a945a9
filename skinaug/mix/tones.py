"""The control `tone_shift`: photographs whose skin tone is moved in CIELAB, in the place of synthetic images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from rich.console import Console

from skinaug.errors import InputError, plural
from skinaug.images import open_image, square
from skinaug.manifest import Manifest
from skinaug.metrics.colour import lab_of_pixels, pixels_of_lab
from skinaug.metrics.skin import ITA_LIMITS_DEG, find_regions, skin_colours, tone_of_ita
from skinaug.store.digest import sha256_file

DARKEST_DEG, LIGHTEST_DEG = -50.0, 65.0  # ends of the classes dark and very light: hardly any skin is beyond
# Lower and upper end of each tone, in degrees; tone 1 is the first.
TONE_ENDS_DEG = tuple(
    zip(
        (*ITA_LIMITS_DEG[::-1], DARKEST_DEG),
        (LIGHTEST_DEG, *ITA_LIMITS_DEG[::-1]),
        strict=True,
    )
)
MEASURED = 256  # pixels a side at which a photograph's skin is looked for
BAND = 2**20  # pixels that are shifted at a time: bounds the memory
FOLDER = "images"


def check_range(ita: Sequence[float] | None) -> None:
    """Refuse a range of angles that is none.

    Raises:
        InputError: no two numbers, the lower one first, between -90 and 90.
    """
    numbers = ita is None or (len(ita) == 2 and all(isinstance(end, int | float) for end in ita))
    if not numbers or (ita is not None and not -90 < ita[0] <= ita[1] < 90):
        raise InputError(
            f"mix.tone_shift_ita={ita if ita is None else list(ita)}: it is the range of typology angles that skin is moved to, "
            "[<lowest>, <highest>] in degrees, such as [-50, 10] for brown and dark skin; null for the tones that the photographs lack."
        )


def shift_tones(repeated: Manifest, ita: Sequence[float] | None, seed: int, out: Path) -> Manifest:
    """Write a photograph's repetitions with skin of another tone each, as PNG of its own size below `out`/images.

    Each repetition draws its typology angle (`metrics.skin`) by seed and image id alone: from the range, or from the tones that
    the photographs lack, the rarer the more often, and evenly within a tone.

    Args:
        repeated: rows of photographs as `selection.repeat` makes them.
        ita: [lowest, highest] angle in degrees; None: what the photographs lack.
        seed: of the draws.
        out: receives the pictures.

    Returns:
        the rows with their new pictures, rooted at `out`, and the columns `parents`, the photograph of each, and `ita_deg`, the
        angle drawn.
    """
    paths, ids = repeated.paths(), repeated.table["image_id"].to_list()
    found = {path: skin_of(path) for path in dict.fromkeys(paths)}
    lacking = lack(tone_of_ita(np.array([ita_of(colour) for colour in found.values()])))
    (out / FOLDER).mkdir()
    rows = []
    for image_id, path in zip(ids, paths, strict=True):
        angle = draw_ita(f"{seed}\0{image_id}", lacking, ita)
        file = out / FOLDER / f"{hashlib.sha256(image_id.encode()).hexdigest()[:32]}.png"
        pixels = np.asarray(open_image(path))
        Image.fromarray(shifted(pixels, found[path], angle)).save(file)
        height, width = pixels.shape[:2]
        rows.append((f"{FOLDER}/{file.name}", width, height, sha256_file(file), angle))
    names = ["path", "width", "height", "sha256", "ita_deg"]
    made = pl.DataFrame(rows, schema=names, orient="row")
    photograph = pl.concat_list(pl.col("image_id").str.replace(r"~\d+$", ""))
    table = repeated.table.drop("mask", strict=False).with_columns(photograph.alias("parents"))
    table = table.with_columns(made.get_columns())
    _tell(made["ita_deg"].to_numpy(), len(found))
    return Manifest(table, out, repeated.classes, repeated.licence, repeated.citation)


def _tell(angles: np.ndarray, photographs: int) -> None:
    """Print how many pictures were made, and which tones they have."""
    ends = f": {angles.min():.0f} to {angles.max():.0f} degrees" if len(angles) else ""
    text = f"{plural(len(angles), 'picture')} of {plural(photographs, 'photograph')} with skin of another tone{ends}"
    Console().print(text, highlight=False)


def skin_of(path: Path) -> np.ndarray:
    """Median CIE L*, a*, b* of the skin that a photograph shows: float [3]."""
    pixels = square(open_image(path), MEASURED)[None]
    return skin_colours(find_regions(lab_of_pixels(pixels)))[0]


def ita_of(colour: np.ndarray) -> float:
    """Typology angle of a colour L*, a*, b*, in degrees, as `metrics.skin` has it."""
    return float(np.degrees(np.arctan2(colour[0] - 50, colour[2])))


def lack(tones: np.ndarray) -> np.ndarray:
    """Chance of each of the six tones: in proportion to how many photographs it has fewer than the commonest one; of all alike
    where none has fewer. tones: int [N], from 1. Returns float [6]."""
    counts = np.bincount(tones - 1, minlength=len(TONE_ENDS_DEG))
    few = (counts.max() - counts).astype(float)
    return few / few.sum() if few.any() else np.full(len(few), 1 / len(few))


def draw_ita(name: str, lacking: np.ndarray, ita: Sequence[float] | None) -> float:
    """An angle in degrees that follows from the name alone."""
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest()))
    low, high = TONE_ENDS_DEG[rng.choice(len(lacking), p=lacking)] if ita is None else ita
    return float(rng.uniform(low, high))


def shifted(pixels: np.ndarray, skin: np.ndarray, ita_deg: float) -> np.ndarray:
    """A picture whose skin has the typology angle asked for: uint8 [H, W, 3] to the same.

    The skin's colour is turned about L* = 50, b* = 0, which the angle is measured from, so that it keeps its distance to it and
    its a*. All pixels go with it, lesions too: L* is drawn linearly towards black or white, so that order is kept and nothing
    clips there, and b* moves by as much as the skin's. What leaves the gamut of sRGB is clipped.

    Args:
        skin: its colour, L*, a*, b*.
        ita_deg: the angle, between -90 and 90.
    """
    radius, angle = np.hypot(skin[0] - 50, skin[2]), np.radians(ita_deg)
    lightness, yellow = 50 + radius * np.sin(angle), radius * np.cos(angle)
    flat = pixels.reshape(-1, 3)
    made = np.empty_like(flat)
    for start in range(0, len(flat), BAND):
        colours = lab_of_pixels(flat[start : start + BAND])
        if lightness < skin[0]:
            colours[:, 0] *= lightness / skin[0]
        else:
            colours[:, 0] = 100 - (100 - colours[:, 0]) * (100 - lightness) / max(100 - skin[0], 1e-6)
        colours[:, 2] += yellow - skin[2]
        made[start : start + BAND] = pixels_of_lab(colours)
    return made.reshape(pixels.shape)
