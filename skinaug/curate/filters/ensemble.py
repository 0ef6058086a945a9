"""Pictures that classifiers trained on real images do not assign to the class that they were made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from sklearn.model_selection import StratifiedGroupKFold

from skinaug.curate.thresholds import check_count, check_share
from skinaug.errors import InputError
from skinaug.manifest import Manifest

Predict = Callable[[Manifest], np.ndarray]  # float [N, C]


class Ensemble:
    """Keeps what classifiers assign to the intended class (Akrout et al. 2023, arXiv 2301.04802), cross-fitted.

    Each member is trained on the real training split without one of `members` folds of patients. An image that was made from
    a photograph (its parent) is judged only by the members that have seen no picture of the parent's patient.

    Args:
        fit: (train, val, seed, trainer, cache) -> classifier, by keywords; a classifier gives float [N, C].
        members: classifiers, at least 2.
        seed: member i trains with seed + i.
    """

    exposure: ClassVar[str] = "real"

    def __init__(self, fit: Callable[..., Predict], members: int = 3, seed: int = 0) -> None:
        if members < 2:
            raise InputError(f"filter.ensemble.scorer.members={members} is no ensemble: give 2 or more.")
        self.fit, self.members, self.seed = fit, members, seed

    def score(
        self, pool: Manifest, real: Manifest, *, trainer: Callable[..., Any], cache: Path | None
    ) -> pl.DataFrame:
        """Columns image_id, `intended` (class), `judges` (members that may judge it), `agreement` (share of these that choose
        it) and `probability` (their mean); the last two are null without judges."""
        intended = np.array(pool.labels())
        trained_on = without_each_fold(real, self.members, self.seed)
        votes, probabilities = [], []
        for number, train in enumerate(trained_on):
            member = self.fit(train=train, val=None, seed=self.seed + number, trainer=trainer, cache=cache)
            predicted = member(pool)
            votes.append(predicted.argmax(1) == intended)
            probabilities.append(predicted[np.arange(len(pool)), intended])
        may = np.stack([blind_to_parents(pool, real, train) for train in trained_on])
        judges = may.sum(0)
        shares = [
            (may * np.stack(values)).sum(0) / np.maximum(judges, 1) for values in (votes, probabilities)
        ]
        agreement, probability = (
            pl.Series(share, dtype=pl.Float64).set(pl.Series(judges == 0), None) for share in shares
        )
        return pl.DataFrame(
            {
                "image_id": pool.table["image_id"],
                "intended": pool.table["label"],
                "judges": judges,
                "agreement": agreement,
                "probability": probability,
            }
        )

    def keep(
        self,
        scores: pl.DataFrame,
        agreement: float = 0.5,
        probability: float = 0.0,
        max_per_class: int | None = None,
        min_per_class: int = 0,
    ) -> pl.DataFrame:
        """Those with at least this agreement and this mean probability; of a class at most the `max_per_class` most probable.

        Of a class of which fewer than `min_per_class` pass, the most probable of the others fill up to that number, and
        their reason tells so.
        """
        for name, value in (("agreement", agreement), ("probability", probability)):
            check_share("ensemble", name, value)
        for name, count in (("max_per_class", max_per_class), ("min_per_class", min_per_class)):
            check_count("ensemble", name, count)
        if max_per_class is not None and max_per_class < min_per_class:
            raise InputError(
                f"filter.ensemble.keep asks for at most {max_per_class} and at least {min_per_class} images a class: lower "
                "min_per_class or raise max_per_class."
            )
        faults = {
            "no judge that is blind to its parents": pl.col("judges") == 0,
            "taken for another class": pl.col("agreement") < agreement - 1e-9,
            "improbable": pl.col("probability") < probability,
        }
        fault = pl.coalesce(pl.when(condition).then(pl.lit(text)) for text, condition in faults.items())
        # From 1: those that pass, then the others that were judged, each from the most to the least probable.
        place = (
            (2 * pl.col("fault").is_null().cast(pl.Int8) + pl.col("probability"))
            .rank("ordinal", descending=True)
            .over("intended")
        )
        passes, filled = pl.col("fault").is_null(), (pl.col("place") <= min_per_class).fill_null(False)
        beyond = pl.lit(False) if max_per_class is None else pl.col("place") > max_per_class
        reason = (
            pl.when(passes & beyond).then(pl.lit("beyond the most probable of its class"))
            .when(~passes & filled).then(pl.lit("fills its class up"))
            .otherwise(pl.col("fault"))
        )  # fmt: skip
        judged = scores.with_columns(fault=fault).with_columns(place=place)
        return judged.select(keep=(passes & ~beyond) | filled, reason=reason)


def blind_to_parents(pool: Manifest, real: Manifest, train: Manifest) -> np.ndarray:
    """Whether a classifier trained on `train`, a part of `real`, has seen no patient of an image's parents: boolean [N]."""
    if "parents" not in pool.table.columns or pool.table["parents"].dtype == pl.Null:
        return np.ones(len(pool), bool)
    patients = set(train.table["group_id"])
    known = real.table.filter(pl.col("group_id").is_in(list(patients)))["image_id"].to_list()
    seen = pool.table["parents"].list.eval(pl.element().is_in(known)).list.any()
    return ~seen.fill_null(False).to_numpy()


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
