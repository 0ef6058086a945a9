"""Who is photographed and how: distributions of skin, body site, light and camera that all samplers share."""

from __future__ import annotations

import numpy as np

from skinaug.dataset.phantom.colour import ITA_RANGE_DEG
from skinaug.dataset.phantom.parameters import SKIN_TYPES, Photo, Site, Skin

# site: (share of frames that show a limb before a background, hairs per frame at full density, creases)
_SITES = {
    "face": (0.00, 4, 0.3),
    "scalp": (0.00, 170, 0.0),
    "neck": (0.15, 5, 1.2),
    "chest": (0.00, 12, 0.2),
    "back": (0.00, 5, 0.2),
    "arm": (0.60, 14, 0.8),
    "hand": (0.70, 5, 2.0),
    "abdomen": (0.00, 9, 0.5),
    "leg": (0.50, 26, 0.4),
    "foot": (0.55, 3, 1.6),
}
_BACKGROUNDS = (
    (0.62, 0.64, 0.66),  # paper
    (0.05, 0.12, 0.30),  # blue drape
    (0.06, 0.25, 0.22),  # green drape
    (0.02, 0.02, 0.022),  # black
    (0.25, 0.26, 0.28),  # grey
    (0.30, 0.20, 0.12),  # wood
)


def draw_skin(rng: np.random.Generator, skin_type: str | None = None) -> Skin:
    """A person's skin; the six types are equally likely unless one is asked for."""
    kind = skin_type or SKIN_TYPES[rng.integers(6)]
    low, high = ITA_RANGE_DEG[kind]
    fair = kind in ("I", "II", "III")
    freckles = int(rng.integers(15, 130)) if rng.random() < (0.22 if fair else 0.05) else 0
    return Skin(
        skin_type=kind,
        ita_deg=float(rng.uniform(low, high)),
        haemoglobin=float(np.clip(rng.lognormal(-2.1, 0.35), 0.05, 0.3)),
        mottling=float(rng.uniform(0.05, 0.22)),
        texture=float(rng.uniform(0.2, 1.0)),
        freckles=freckles,
    )


def draw_site(rng: np.random.Generator, body_site: str, hairiness: float) -> Site:
    """A view of a body site of a person with hairiness in [0, 1]."""
    limb_share, hairs, creases = _SITES[body_site]
    limb = rng.random() < limb_share
    half_width = rng.uniform(0.3, 0.48) if limb else 0.0
    fingers = limb and body_site in ("hand", "foot") and rng.random() < 0.4
    red, green, blue = _BACKGROUNDS[rng.integers(len(_BACKGROUNDS))]
    light = float(rng.uniform(0.7, 1.3))
    scalp = body_site == "scalp"
    return Site(
        body_site=body_site,
        curvature=float(rng.uniform(0.05, 0.7)),
        limb_half_width=float(0.55 * half_width if fingers else half_width),
        limb_angle=float(rng.normal(0 if rng.random() < 0.5 else np.pi / 2, 0.3)),
        fingers=bool(fingers),
        background=(red * light, green * light, blue * light),
        hairs=int(rng.poisson(hairs * (0.4 + hairiness if scalp else 2 * hairiness**2))),
        hair_length=float(rng.uniform(0.25, 0.6) if scalp else rng.uniform(0.06, 0.22)),
        hair_darkness=float(rng.uniform(0.45, 0.95)),
        creases=int(rng.poisson(creases)),
    )


def draw_photo(rng: np.random.Generator) -> Photo:
    """A phone or clinic camera: mostly well lit, sometimes dim, coloured, soft or noisy."""
    return Photo(
        light_angle=float(rng.uniform(0, 2 * np.pi)),
        light_slope=float(rng.uniform(0.0, 0.5)),
        exposure=float(rng.normal(-0.05, 0.22)),
        warmth=float(rng.normal(0.03, 0.10)),
        tint=float(rng.normal(0, 0.035)),
        vignette=float(rng.uniform(0, 0.45)),
        blur=float(rng.uniform(0, 0.012) if rng.random() < 0.35 else 0.0),
        noise=float(rng.uniform(0.004, 0.03)),
        flash=float(rng.uniform(0, 1) if rng.random() < 0.35 else 0.0),
    )


def draw_pen(rng: np.random.Generator) -> int:
    """Count of pen marks: most pictures have none."""
    return int(rng.integers(1, 4)) if rng.random() < 0.06 else 0
