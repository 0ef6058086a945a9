"""Six conditions as distributions over morphology: a phenotype a patient, a severity and a view a picture.

The look follows textbook descriptions (Wolff et al., Fitzpatrick's Color Atlas). Phenotypes overlap on purpose: early
tinea without central clearing resembles eczema, thin psoriasis too, vitiligo that starts is only paler, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skinaug.dataset.phantom.capture import draw_pen, draw_photo, draw_site, draw_skin
from skinaug.dataset.phantom.parameters import Lesion, Picture, Skin

_SITES = {
    "acne": {"face": 0.6, "back": 0.22, "chest": 0.13, "neck": 0.05},
    "eczema": {
        "arm": 0.3,
        "hand": 0.2,
        "leg": 0.18,
        "neck": 0.12,
        "face": 0.12,
        "abdomen": 0.04,
        "foot": 0.04,
    },
    "psoriasis": {"arm": 0.28, "leg": 0.28, "back": 0.14, "scalp": 0.12, "abdomen": 0.12, "hand": 0.06},
    "tinea": {
        "leg": 0.22,
        "arm": 0.2,
        "abdomen": 0.2,
        "back": 0.14,
        "foot": 0.1,
        "neck": 0.08,
        "scalp": 0.06,
    },
    "vitiligo": {
        "hand": 0.28,
        "face": 0.22,
        "arm": 0.16,
        "leg": 0.12,
        "chest": 0.08,
        "neck": 0.08,
        "foot": 0.06,
    },
    "nevus": {
        "back": 0.32,
        "arm": 0.2,
        "leg": 0.16,
        "chest": 0.12,
        "face": 0.1,
        "abdomen": 0.06,
        "neck": 0.04,
    },
}
_AGE_YEARS = {
    "acne": (20, 6),
    "eczema": (30, 18),
    "psoriasis": (46, 15),
    "tinea": (36, 17),
    "vitiligo": (36, 15),
}
CONDITIONS = tuple(_SITES)


@dataclass(frozen=True)
class Patient:
    """What all pictures of one person share."""

    condition: str
    skin: Skin
    phenotype: Lesion
    hairiness: float
    age: int
    sex: str


def draw_patient(
    rng: np.random.Generator, condition: str, skin_types: Sequence[str] | None = None
) -> Patient:
    """A person with one condition; skin_types: those that occur, equally often; None: all."""
    mean, deviation = _AGE_YEARS.get(condition, (42, 18))
    sex = "male" if rng.random() < 0.5 else "female"
    return Patient(
        condition=condition,
        skin=draw_skin(rng, None if skin_types is None else skin_types[int(rng.integers(len(skin_types)))]),
        phenotype=_PHENOTYPES[condition](rng),
        hairiness=float(rng.beta(2, 3) if sex == "male" else rng.beta(1.2, 6)),
        age=int(np.clip(rng.normal(mean, deviation), 4, 88)),
        sex=sex,
    )


def draw_picture(rng: np.random.Generator, patient: Patient) -> Picture:
    """One photograph of a patient: a site, a moment of the disease, a distance, a light."""
    sites = _SITES[patient.condition]
    shares = np.array(list(sites.values()))
    site = list(sites)[rng.choice(len(sites), p=shares / shares.sum())]
    return Picture(
        skin=patient.skin,
        site=draw_site(rng, site, patient.hairiness),
        lesion=_moment(rng, patient.phenotype),
        photo=draw_photo(rng),
        pen=draw_pen(rng),
    )


def _moment(rng: np.random.Generator, lesion: Lesion) -> Lesion:
    """The phenotype at one time and distance: severity moves what inflammation causes, zoom all lengths."""
    severity, zoom = float(rng.uniform(0.35, 1.15)), float(rng.lognormal(0, 0.25))
    count = lesion.count if lesion.count < 2 else max(1, int(rng.poisson(lesion.count * severity / zoom)))
    stage = {
        name: getattr(lesion, name) * severity for name in ("erythema", "scale", "crust", "elevation", "pus")
    }
    return replace(
        lesion,
        count=min(count, 40),
        radius=float(np.clip(lesion.radius * zoom, 0.014, 0.4)),
        softness=float(lesion.softness * rng.lognormal(0, 0.25)),
        ring=float(np.clip(lesion.ring * rng.uniform(0.7, 1.2), 0, 1)),
        irregularity=float(lesion.irregularity * rng.lognormal(0, 0.2)),
        pigment_loss=float(np.clip(lesion.pigment_loss * rng.uniform(0.6, 1.1), 0, 1)),
        **stage,
    )


def _acne(rng: np.random.Generator) -> Lesion:
    return Lesion(
        count=int(rng.integers(4, 26)),
        radius=float(rng.uniform(0.018, 0.045)),
        radius_spread=float(rng.uniform(0.2, 0.5)),
        cluster=float(rng.uniform(0, 0.4)),
        elongation=1.15,
        irregularity=0.3,
        softness=float(rng.uniform(0.4, 1.1)),
        erythema=float(rng.uniform(0.4, 1.3)),
        pigment=float(rng.uniform(0, 0.5)),
        elevation=float(rng.uniform(0.3, 1.1)),
        pus=float(rng.uniform(0, 0.8)),
        shine=float(rng.uniform(0, 0.4)),
    )


def _eczema(rng: np.random.Generator) -> Lesion:
    return Lesion(
        count=int(rng.integers(1, 7)),
        radius=float(rng.uniform(0.09, 0.27)),
        radius_spread=0.35,
        cluster=float(rng.uniform(0.2, 0.8)),
        elongation=float(rng.uniform(1.1, 2.2)),
        irregularity=float(rng.uniform(0.6, 1.4)),
        patchiness=float(rng.uniform(0.4, 1.2)),
        softness=float(rng.uniform(0.5, 1.2)),
        erythema=float(rng.uniform(0.25, 0.9)),
        pigment=float(rng.uniform(0, 0.7)),
        elevation=float(rng.uniform(0, 0.3)),
        scale=float(rng.uniform(0.0, 0.55)),
        scale_coarseness=float(rng.uniform(0.5, 1)),
        crust=float(rng.uniform(0.2, 0.6) if rng.random() < 0.3 else 0),
    )


def _psoriasis(rng: np.random.Generator) -> Lesion:
    guttate = rng.random() < 0.25
    return Lesion(
        count=int(rng.integers(6, 18) if guttate else rng.integers(1, 6)),
        radius=float(rng.uniform(0.03, 0.06) if guttate else rng.uniform(0.1, 0.27)),
        radius_spread=0.35,
        cluster=float(rng.uniform(0.0, 0.6)),
        elongation=float(rng.uniform(1.1, 1.8)),
        irregularity=float(rng.uniform(0.3, 0.9)),
        patchiness=float(rng.uniform(0, 0.3)),
        softness=float(rng.uniform(0.08, 0.4)),
        erythema=float(rng.uniform(0.5, 1.3)),
        pigment=float(rng.uniform(0, 0.2)),
        violet=float(rng.uniform(0, 0.25)),
        elevation=float(rng.uniform(0.3, 0.8)),
        scale=float(rng.uniform(0.35, 0.95)),
        scale_coarseness=float(rng.uniform(0, 0.6)),
    )


def _tinea(rng: np.random.Generator) -> Lesion:
    return Lesion(
        count=int(rng.choice([1, 1, 1, 2, 2, 3, 4])),
        radius=float(rng.uniform(0.1, 0.28)),
        radius_spread=0.3,
        cluster=float(rng.uniform(0.1, 0.6)),
        elongation=float(rng.uniform(1.0, 1.5)),
        irregularity=float(rng.uniform(0.2, 0.8)),
        patchiness=float(rng.uniform(0, 0.4)),
        softness=float(rng.uniform(0.12, 0.5)),
        ring=float(rng.uniform(0.1, 1.0)),
        rim_width=float(rng.uniform(0.2, 0.45)),
        erythema=float(rng.uniform(0.4, 1.1)),
        pigment=float(rng.uniform(0, 0.4)),
        elevation=float(rng.uniform(0.1, 0.6)),
        scale=float(rng.uniform(0.1, 0.6)),
        scale_at_rim=float(rng.uniform(0.5, 1)),
        scale_coarseness=float(rng.uniform(0.3, 1)),
    )


def _vitiligo(rng: np.random.Generator) -> Lesion:
    return Lesion(
        count=int(rng.integers(1, 9)),
        radius=float(rng.uniform(0.06, 0.26)),
        radius_spread=0.5,
        cluster=float(rng.uniform(0.1, 0.7)),
        elongation=float(rng.uniform(1.1, 2.0)),
        irregularity=float(rng.uniform(0.5, 1.4)),
        patchiness=float(rng.uniform(0, 0.4)),
        softness=float(rng.uniform(0.06, 0.4)),
        pigment_loss=float(rng.uniform(0.45, 1.0)),
        erythema=float(rng.uniform(0, 0.2)),
    )


def _nevus(rng: np.random.Generator) -> Lesion:
    return Lesion(
        count=int(rng.choice([1, 1, 1, 1, 2, 3])),
        radius=float(rng.uniform(0.03, 0.17)),
        radius_spread=0.35,
        cluster=float(rng.uniform(0, 0.8)),
        elongation=float(rng.uniform(1.0, 1.5)),
        irregularity=float(rng.uniform(0.1, 0.8)),
        softness=float(rng.uniform(0.1, 0.5)),
        erythema=float(rng.uniform(0, 0.4)),
        pigment=float(rng.uniform(0.5, 3.2)),
        elevation=float(rng.uniform(0, 0.9)),
        shine=float(rng.uniform(0, 0.3)),
    )


_PHENOTYPES = {
    "acne": _acne,
    "eczema": _eczema,
    "psoriasis": _psoriasis,
    "tinea": _tinea,
    "vitiligo": _vitiligo,
    "nevus": _nevus,
}
