"""A broad distribution over morphology for pictures labelled only "skin": every word, in any combination.

Each attribute's word is drawn alone, then the parameters within the word's range, so that the pictures cover what
skin can look like without following any condition's distribution.
"""

from __future__ import annotations

import numpy as np

from skinaug.dataset.phantom.capture import draw_pen, draw_photo, draw_site, draw_skin
from skinaug.dataset.phantom.parameters import BODY_SITES, Lesion, Picture

_COUNTS = {"no": (0, 0), "one": (1, 1), "two": (2, 2), "a few": (3, 6), "many": (7, 28)}
_COUNT_SHARES = (0.10, 0.30, 0.14, 0.22, 0.24)
_RADII = {
    "tiny": (0.016, 0.032),
    "small": (0.034, 0.073),
    "medium-sized": (0.078, 0.165),
    "large": (0.175, 0.33),
}
_SIZE_SHARES = {  # by count: many large lesions fill the frame, so they are rare, but every pair of words occurs
    "one": (0.12, 0.26, 0.32, 0.30),
    "two": (0.13, 0.30, 0.35, 0.22),
    "a few": (0.22, 0.36, 0.28, 0.14),
    "many": (0.38, 0.38, 0.17, 0.07),
}
_COLOURS = ("red", "pink", "brown", "dark brown", "black", "white", "violet", "yellowish")
_COLOUR_SHARES = (0.24, 0.16, 0.13, 0.10, 0.06, 0.13, 0.10, 0.08)
_BORDERS = ("sharp", "blurred", "ring-shaped", "irregular")
_BORDER_SHARES = (0.32, 0.26, 0.21, 0.21)
_SURFACES = ("smooth", "raised", "scaly", "crusted", "pus-filled")
_SURFACE_SHARES = (0.34, 0.20, 0.22, 0.12, 0.12)


def draw_morphology(rng: np.random.Generator) -> Picture:
    """Parameters of one picture of the broad distribution."""
    site = BODY_SITES[rng.integers(len(BODY_SITES))]
    return Picture(
        skin=draw_skin(rng),
        site=draw_site(rng, site, hairiness=float(rng.uniform(0, 1))),
        lesion=_draw_lesion(rng),
        photo=draw_photo(rng),
        pen=draw_pen(rng),
    )


def _choose(rng: np.random.Generator, words: tuple[str, ...], shares: tuple[float, ...]) -> str:
    return words[rng.choice(len(words), p=shares)]


def _draw_lesion(rng: np.random.Generator) -> Lesion:
    count = _choose(rng, tuple(_COUNTS), _COUNT_SHARES)
    if count == "no":
        return Lesion()
    size = _choose(rng, tuple(_RADII), _SIZE_SHARES[count])
    low, high = _COUNTS[count]
    border = _choose(rng, _BORDERS, _BORDER_SHARES)
    return Lesion(
        count=int(rng.integers(low, high + 1)),
        radius=float(np.exp(rng.uniform(*np.log(_RADII[size])))),
        radius_spread=float(rng.uniform(0.05, 0.4)),
        cluster=float(rng.uniform(0, 0.8)),
        elongation=float(1 + rng.exponential(0.4)),
        **_border(rng, border),
        **_colour(rng, _choose(rng, _COLOURS, _COLOUR_SHARES)),
        **_surface(rng, _choose(rng, _SURFACES, _SURFACE_SHARES)),
    )


def _border(rng: np.random.Generator, word: str) -> dict[str, float]:
    values = {
        "softness": rng.uniform(0.05, 0.4),
        "irregularity": rng.uniform(0.05, 0.55),
        "patchiness": rng.uniform(0, 0.3),
        "ring": 0.0,
        "rim_width": rng.uniform(0.2, 0.5),
    }
    if word == "blurred":
        values |= {"softness": rng.uniform(0.5, 1.2), "patchiness": rng.uniform(0, 1.0)}
    elif word == "ring-shaped":
        values |= {"ring": rng.uniform(0.55, 1.0)}
    elif word == "irregular":
        values |= {"irregularity": rng.uniform(0.7, 1.5), "patchiness": rng.uniform(0.1, 0.6)}
    return {name: float(value) for name, value in values.items()}


def _colour(rng: np.random.Generator, word: str) -> dict[str, float]:
    ranges: dict[str, dict[str, tuple[float, float]]] = {
        "red": {"erythema": (0.52, 1.3), "pigment": (0.0, 0.25)},
        "pink": {"erythema": (0.18, 0.48), "pigment": (0.0, 0.12)},
        "brown": {"erythema": (0.0, 0.3), "pigment": (0.4, 1.15)},
        "dark brown": {"erythema": (0.0, 0.3), "pigment": (1.25, 2.5)},
        "black": {"erythema": (0.0, 0.2), "pigment": (2.7, 4.5)},
        "white": {"erythema": (0.0, 0.05), "pigment_loss": (0.4, 1.0)},
        "violet": {"erythema": (0.0, 0.5), "violet": (0.45, 1.2)},
        "yellowish": {"erythema": (0.0, 0.35), "yellow": (0.5, 1.2)},
    }
    return {name: float(rng.uniform(*limits)) for name, limits in ranges[word].items()}


def _surface(rng: np.random.Generator, word: str) -> dict[str, float]:
    values = {"elevation": rng.uniform(0, 0.35), "shine": rng.uniform(0, 0.15)}
    if word == "raised":
        values |= {"elevation": rng.uniform(0.45, 1.3), "shine": rng.uniform(0, 0.5)}
    elif word == "scaly":
        values |= {
            "scale": rng.uniform(0.33, 0.95),
            "scale_at_rim": rng.uniform(0, 1),
            "scale_coarseness": rng.uniform(0, 1),
            "elevation": rng.uniform(0, 0.8),
        }
    elif word == "crusted":
        values |= {"crust": rng.uniform(0.35, 0.85), "elevation": rng.uniform(0.1, 0.7)}
    elif word == "pus-filled":
        values |= {"pus": rng.uniform(0.4, 1.0), "elevation": rng.uniform(0.4, 1.2)}
    return {name: float(value) for name, value in values.items()}
