"""Pictures that classifiers trained on real images do not assign to the class that they were made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.model_selection import StratifiedGroupKFold

from skinaug.errors import InputError
from skinaug.manifest import Manifest

Predict = Callable[[Manifest], np.ndarray]  # float [N, C]


class Ensemble:
    """Keeps what classifiers assign to the intended class (Akrout et al. 2023, arXiv 2301.04802).

    Each member is trained on the real training split without one of `members` folds of patients.

    Args:
        fit: (train, val, seed, trainer, cache) -> classifier, by keywords; a classifier gives float [N, C].
        members: classifiers, at least 2.
        seed: member i trains with seed + i.
    """

    def __init__(self, fit: Callable[..., Predict], members: int = 3, seed: int = 0) -> None:
        if members < 2:
            raise InputError(f"filter.ensemble.scorer.members={members} is no ensemble: give 2 or more.")
        self.fit, self.members, self.seed = fit, members, seed

    def score(
        self, pool: Manifest, real: Manifest, *, trainer: Callable[..., Any], cache: Path | None
    ) -> pl.DataFrame:
        """Columns image_id, `intended` (class), `agreement` (share of members that choose it), `probability` (their mean)."""
        intended = np.array(pool.labels())
        votes, probabilities = [], []
        for number, train in enumerate(without_each_fold(real, self.members, self.seed)):
            member = self.fit(train=train, val=None, seed=self.seed + number, trainer=trainer, cache=cache)
            predicted = member(pool)
            votes.append(predicted.argmax(1) == intended)
            probabilities.append(predicted[np.arange(len(pool)), intended])
        return pl.DataFrame(
            {
                "image_id": pool.table["image_id"],
                "intended": pool.table["label"],
                "agreement": np.mean(votes, axis=0),
                "probability": np.mean(probabilities, axis=0, dtype=np.float64),
            }
        )

    def keep(
        self, scores: pl.DataFrame, agreement: float = 0.5, probability: float = 0.0, min_per_class: int = 0
    ) -> pl.Series:
        """Those with at least this agreement and this mean probability.

        Of a class of which fewer than `min_per_class` pass, the most probable of the others fill up to that number.
        """
        for name, value in (("agreement", agreement), ("probability", probability)):
            if not 0 <= value <= 1:
                raise InputError(f"filter.ensemble.keep.{name}={value} is no share: give a value in [0, 1].")
        passes = (pl.col("agreement") >= agreement - 1e-9) & (pl.col("probability") >= probability)
        # From 1: those that pass, then the others, each from the most to the least probable.
        place = (
            (2 * pl.col("passes").cast(pl.Int8) + pl.col("probability"))
            .rank("ordinal", descending=True)
            .over("intended")
        )
        judged = scores.with_columns(passes=passes).with_columns(place=place)
        return judged.select(keep=pl.col("passes") | (pl.col("place") <= min_per_class))["keep"]


def without_each_fold(real: Manifest, folds: int, seed: int) -> list[Manifest]:
    """The images without one fold of patients, for each fold; classes are spread evenly over folds.

    Raises:
        InputError: fewer patients than folds.
    """
    patients, labels = real.table["group_id"].to_numpy(), real.table["label"].to_numpy()
    if len(np.unique(patients)) < folds:
        raise InputError(
            f"{folds} classifiers need as many patients, and there are {len(np.unique(patients))}: lower filter.ensemble.scorer.members."
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [real.with_table(real.table[kept]) for kept, _ in splitter.split(labels, labels, patients)]
