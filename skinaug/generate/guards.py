"""Pictures that show nothing or cannot be skin, told by their pixels alone. Each is a pure function of one picture."""

from __future__ import annotations

import numpy as np

from skinaug.metrics.colour import lab

FLAWS = ("nan", "black", "blank", "cast")  # in the order in which they are looked for

BLACK_LEVELS = (
    8  # of 255: a picture is black where this is the most that 99 % of its pixels reach in any channel
)
BLANK_LEVELS = 2  # a picture whose every channel spans at most this many of 255 levels shows nothing
SAMPLED = 64  # pixels a side that colours are judged on: a cast covers the picture

# A pixel that is neither skin nor lesion nor what lies around them in a photograph. Skin's hue runs from pink to yellow
# (a* >= 0, b* mostly above 0), flash, shade and cloth add greys, and a few photographs are purple. Calibrated on the 896
# photographs of PAD-UFES-20's sample and on phantoms: the farthest photograph has 39 % such pixels.
GREENEST = -6.0  # CIE a*
MOST_PURPLE = 42.0  # CIE a* - b* of a bright pixel
PURPLE_OF_BLACK, PURPLE_PER_LIGHTNESS = 10.0, 0.7  # a dark pixel has less room for chroma, so less is a cast
CAST_SHARE = 0.5


def flaw(picture: np.ndarray) -> str | None:
    """What is wrong with a picture, float [H, W, 3] in [0, 1]: the first of FLAWS that it has, or None.

    Redder or browner than any skin is not told: lesions and blood are. Nothing is judged by what the picture shows.
    """
    if not np.isfinite(picture).all():
        return "nan"
    if is_black(picture):
        return "black"
    if is_blank(picture):
        return "blank"
    return "cast" if cast_share(picture) > CAST_SHARE else None


def is_black(picture: np.ndarray) -> bool:
    """Whether all but a hundredth of the pixels are black."""
    return bool(np.quantile(picture.max(axis=2), 0.99) <= BLACK_LEVELS / 255)


def is_blank(picture: np.ndarray) -> bool:
    """Whether the picture is one flat colour."""
    return bool((np.ptp(picture, axis=(0, 1)) <= BLANK_LEVELS / 255).all())


def cast_share(picture: np.ndarray) -> float:
    """Share of pixels, [0, 1], that are too green, blue or magenta for any photograph of skin."""
    step = max(1, min(picture.shape[:2]) // SAMPLED)
    lightness, a, b = np.moveaxis(lab(picture[::step, ::step]), 2, 0)
    purplest = np.minimum(MOST_PURPLE, PURPLE_OF_BLACK + PURPLE_PER_LIGHTNESS * lightness)
    return float(((a < GREENEST) | (a - b > purplest)).mean())
