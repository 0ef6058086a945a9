"""Scores of runs that are several jobs: each classifier is scored on its own images, and folds tell the chance of training sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from skinaug.manifest import read_once
from skinaug.report import statistics
from skinaug.report.collect import Predictions, Study
from skinaug.report.run import FOLD, Run
from skinaug.report.statistics import Sums, Variance

Scores = Mapping[str, np.ndarray]


def terms(predictions: Predictions) -> Sums:
    """`statistics.image_terms`, each image among those that the same classifier has judged: probabilities of different classifiers
    are on no common scale, so an AUROC is that within each fold, averaged by its positives (Airola et al. 2011, Computational
    Statistics and Data Analysis 55:1828)."""
    return joined(statistics.image_terms(part.probabilities, part.labels) for part in split(predictions))


def joined(parts: Iterable[Sums]) -> Sums:
    """What the images of several classifiers add to sums, one after the other as `split` gives them."""
    found = list(parts)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def split(predictions: Predictions) -> list[Predictions]:
    """The predictions of each classifier on its own, in their order."""
    return [part for part, _ in pairs(predictions, predictions)]


def pairs(predictions: Predictions, validation: Predictions) -> Iterator[tuple[Predictions, Predictions]]:
    """Each classifier's test and validation predictions: what it chooses on the one is judged on the other. A patient whose
    validation picture chooses one fold's threshold is judged in another fold, at a threshold that others have chosen."""
    if predictions.parts is None or validation.parts is None:
        yield predictions, validation
        return
    for part in dict.fromkeys(predictions.parts.tolist()):
        yield _taken(predictions, predictions.parts == part), _taken(validation, validation.parts == part)


def order(predictions: Predictions) -> np.ndarray:
    """The places of the images that `split` gives, one part after the other: int [N]."""
    if predictions.parts is None:
        return np.arange(len(predictions.images))
    parts = dict.fromkeys(predictions.parts.tolist())
    return np.concatenate([np.flatnonzero(predictions.parts == part) for part in parts])


def distinct_images(predictions: Predictions, label: int) -> int:
    """Images of a class, each once however many classifiers have judged it."""
    return len({predictions.images[place] for place in np.flatnonzero(predictions.labels == label)})


def _taken(predictions: Predictions, rows: np.ndarray) -> Predictions:
    """Some rows. rows: bool [N]."""
    places = np.flatnonzero(rows)
    return replace(
        predictions,
        images=[predictions.images[place] for place in places],
        groups=[predictions.groups[place] for place in places],
        labels=predictions.labels[rows],
        probabilities=predictions.probabilities[rows],
        parts=None,
    )


def fold_scores(run: Run, predictions: Predictions) -> list[Scores]:
    """Scores of each fold of a run, in the order of the folds: mean over its classifiers there. None where there are no folds."""
    found: dict[int, list[Scores]] = {}
    for part, own in zip(run.parts, split(predictions), strict=len(run.parts) > 0):
        if FOLD in part.overrides:
            sums = statistics.total(statistics.image_terms(own.probabilities, own.labels))
            found.setdefault(int(part.overrides[FOLD]), []).append(statistics.scores(sums))
    if len(found) < 2:
        return []
    return [
        {name: np.mean([one[name] for one in found[fold]], 0) for name in found[fold][0]}
        for fold in sorted(found)
    ]


def test_to_training(study: Study) -> float | None:
    """Test patients to one training patient, mean over the splits of a study that has several; None for another."""
    if study.unit != "split":
        return None
    shares = []
    for folder in study.artifacts("dataset"):
        table = read_once(folder).table
        counts = dict(table.group_by("split").agg(pl.col("group_id").n_unique()).iter_rows())
        shares.append(counts.get("test", 0) / counts["train"])
    return float(np.mean(shares))


def with_training_sets(
    variance: Variance, resampled: np.ndarray, by_fold: np.ndarray | None, ratio: float | None
) -> Variance:
    """A variance with what comes from the photographs that there happened to be to learn from.

    Folds: training sets differ from fold to fold, and overlap, so their scores are correlated. What folds differ by beyond what
    patients and seeds make of it counts (1/K + 1/(K-1)) times: Nadeau and Bengio's correction (2003, Machine Learning 52:239) for K tests
    of one K-th each, on the part that overlapping training sets share. With one seed it stands for all chance of training.

    Splits: the same correction, (1/J + test/training), of the spread of J splits, where it makes more than patients and splits do.

    Args:
        resampled: [B, S, ...], from which the variance is.
        by_fold: [K, ...], scores of each fold, mean over the seeds; None: no folds.
        ratio: test patients to one training patient of repeated splits; None: no such.
    """
    total, _ = variance.of_mean()
    if by_fold is not None:
        num = len(by_fold)
        expected = num * np.maximum(total, np.var(resampled.mean(1), 0, ddof=1))
        beyond = np.maximum(np.nan_to_num(np.var(by_fold, 0, ddof=1)) - expected, 0)
        return replace(variance, training=beyond * (1 / num + 1 / (num - 1)), num_sets=num)
    if ratio is not None and variance.num_seeds > 1:
        corrected = variance.seed * (1 / variance.num_seeds + ratio)
        return replace(variance, training=np.maximum(corrected - total, 0), num_sets=variance.num_seeds)
    return variance


def mean_by_fold(scores: Sequence[Sequence[Scores]], metric: str) -> np.ndarray:
    """[K, ...] from the folds' scores of each seed."""
    return np.mean([[fold[metric] for fold in folds] for folds in scores], 0)
