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
        """Columns image_id, `agreement` (share of members that choose the intended class) and `probability` (their mean of it)."""
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
                "agreement": np.mean(votes, axis=0),
                "probability": np.mean(probabilities, axis=0, dtype=np.float64),
            }
        )

    def keep(self, scores: pl.DataFrame, agreement: float = 0.5, probability: float = 0.0) -> pl.Series:
        """Those with at least this agreement and this mean probability."""
        for name, value in (("agreement", agreement), ("probability", probability)):
            if not 0 <= value <= 1:
                raise InputError(f"filter.ensemble.keep.{name}={value} is no share: give a value in [0, 1].")
        kept = (scores["agreement"] >= agreement - 1e-9) & (scores["probability"] >= probability)
        return kept.alias("keep")


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
