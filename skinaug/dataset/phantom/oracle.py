"""The phantom renderer as a generator: fresh patients of the same conditions, at a stated distance from the truth."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from skinaug.dataset.phantom.conditions import CONDITIONS
from skinaug.dataset.phantom.morphology import draw_morphology
from skinaug.dataset.phantom.parameters import Lesion
from skinaug.dataset.phantom.source import Drawn, _check, _render_all, condition_picture
from skinaug.errors import InputError

APART = 2**32  # added to the seed: never a patient of the data set, whose seeds are below


class Oracle:
    """Draws what a perfect generator would at gap 0, and what shows nothing of the class at gap 1.

    At gap 0 the pictures follow the same distribution as `Phantom`'s, of other patients. In between, every number of the
    lesion is moved by the gap's share towards a lesion of the class-free morphology set, and the body site is drawn from
    that set with the gap's probability: the label says less and less about the picture.

    per_class: pictures of each class. image_size: pixels a side. gap: in [0, 1]. seed: of the pictures. workers: processes.
    """

    classes = CONDITIONS

    def __init__(
        self, per_class: int, image_size: int, gap: float = 0.0, seed: int = 0, workers: int | None = None
    ) -> None:
        _check(per_class, image_size, "per_class")
        if not 0 <= gap <= 1:
            raise InputError(f"base.gap={gap} must be between 0 (the truth) and 1 (far): change it.")
        self.per_class, self.image_size, self.gap = per_class, image_size, gap
        self.seed, self.workers = seed, workers

    def load(self, root: Path) -> pl.DataFrame:
        """Render into root/images and return one row a picture, with the columns of `Phantom.load`."""
        planned = [
            (f"{label}-oracle-{k:06d}", label, partial(oracle_picture, label, k, self.gap, self.seed))
            for label in CONDITIONS
            for k in range(self.per_class)
        ]
        return _render_all(planned, root, self.image_size, self.workers)


def oracle_picture(label: str, k: int, gap: float, seed: int) -> Drawn:
    """Parameters of picture k of a class, each of a patient of its own, the generator to render it with, extra columns."""
    picture, rng, extra = condition_picture(label, k, 0, seed + APART)
    extra = {**extra, "group_id": f"oracle-{seed}-{extra['group_id']}"}
    if gap == 0:
        return picture, rng, extra
    other = draw_morphology(rng)
    site = other.site if rng.random() < gap else picture.site
    return replace(picture, site=site, lesion=blend(picture.lesion, other.lesion, gap)), rng, extra


def blend(lesion: Lesion, other: Lesion, share: float) -> Lesion:
    """Every number moved by a share of the way to another lesion's; counts are rounded."""
    moved = {
        field.name: (1 - share) * getattr(lesion, field.name) + share * getattr(other, field.name)
        for field in fields(Lesion)
    }
    return Lesion(**{**moved, "count": int(np.rint(moved["count"]))})
