"""Intervals for classification scores: a two-level bootstrap over seeds and test patients.

Every score here is a ratio of sums over test images, so a resampled test set needs no pass over its images: each group's
(patient's) share of the sums is computed once, and 2,000 resampled test sets are one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

TOPS = (1, 2, 3)
Sums = dict[str, np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95 % interval: floats, or arrays of one shape."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def image_terms(probabilities: np.ndarray, labels: np.ndarray) -> Sums:
    """What each test image adds to the sums that scores are made of.

    Args:
        probabilities: float [N, C].
        labels: int [N], true classes.

    Returns:
        float64 arrays [N, ...]: `images` [N], `tops` [N, 3], and `support`, `guessed`, `right`, `above`, `below` [N, C].
    """
    classes = np.arange(probabilities.shape[1])
    actual = labels[:, None] == classes
    guessed = probabilities.argmax(1)[:, None] == classes
    above, below = zip(*(placements(probabilities[:, c], actual[:, c]) for c in classes), strict=True)
    return {
        "images": np.ones(len(labels)),
        "tops": (true_class_rank(probabilities, labels)[:, None] < np.array(TOPS)).astype(float),
        "support": actual.astype(float),
        "guessed": guessed.astype(float),
        "right": (actual & guessed).astype(float),
        "above": np.stack(above, 1),
        "below": np.stack(below, 1),
    }


def true_class_rank(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Position of the true class among the sorted probabilities, 0 the first: int [N]. Ties go to the lower class index."""
    own = np.take_along_axis(probabilities, labels[:, None], 1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > own) | ((probabilities == own) & earlier)).sum(1)


def placements(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's placement values of one class against the rest, ties counted half; float [N] each.

    `above` is, for a positive, the share of negatives below it, and 0 elsewhere; `below` is, for a negative, the share of
    positives above it less the AUROC, and 0 elsewhere. Mean of `above` over positives plus mean of `below` over negatives
    is the AUROC exactly, and its first-order (Hajek) projection on a reweighted test set.
    DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837.
    """
    above, below = np.zeros(len(scores)), np.zeros(len(scores))
    num_positive, num_negative = positive.sum(), (~positive).sum()
    if num_positive == 0 or num_negative == 0:
        return above * np.nan, below * np.nan
    rank, among_positive, among_negative = (ranks(scores[of]) for of in (slice(None), positive, ~positive))
    above[positive] = (rank[positive] - among_positive) / num_negative
    below[~positive] = 1 - (rank[~positive] - among_negative) / num_positive - above[positive].mean()
    return above, below


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing their mean: float [N]. scipy.stats.rankdata, without the seconds of its import."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def scores(sums: Sums) -> dict[str, np.ndarray]:
    """Scores from sums over any leading shape [...]: `top1` ... `auroc` are [...], `recall` is [..., C], all in 0 to 1.

    Classes without a test image (or without a negative) are left out of the class means, as scikit-learn does.
    """
    images, support = sums["images"], sums["support"]
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = sums["right"] / support
        f1 = 2 * sums["right"] / (support + sums["guessed"])
        auroc = sums["above"] / support + sums["below"] / (images[..., None] - support)
    return {
        **{f"top{top}": sums["tops"][..., i] / images for i, top in enumerate(TOPS)},
        "balanced_accuracy": _class_mean(recall),
        "macro_f1": _class_mean(f1),
        "auroc": _class_mean(auroc),
        "recall": recall,
    }


def group_sums(terms: Sums, groups: np.ndarray, num_groups: int) -> Sums:
    """Terms added up within each group. groups: int [N] in [0, num_groups); returns arrays [num_groups, ...]."""
    sums = {name: np.zeros((num_groups, *values.shape[1:])) for name, values in terms.items()}
    for name, values in terms.items():
        np.add.at(sums[name], groups, values)
    return sums


def total(sums: Sums) -> Sums:
    """Sums over all groups: the test set as it is."""
    return {name: values.sum(0) for name, values in sums.items()}


def resample(sums: Sums, counts: np.ndarray) -> Sums:
    """Sums over resampled test sets. counts: [B, G], how often each group was drawn; returns arrays [B, ...]."""
    return {name: np.tensordot(counts, values, 1) for name, values in sums.items()}


def draw_counts(num_items: int, num_draws: int, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each item comes up in `num_draws` draws with replacement: float [num_resamples, num_items]."""
    drawn = (
        rng.integers(num_items, size=(num_resamples, num_draws))
        + num_items * np.arange(num_resamples)[:, None]
    )
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_items)
    return counts.reshape(num_resamples, num_items).astype(float)


def two_level(scores: np.ndarray, resampled: np.ndarray, rng: np.random.Generator) -> Estimate:
    """Mean over seeds with its 95 % percentile interval over seeds and test groups, resampled independently of each other.

    The crossed (pigeonhole) bootstrap of Owen 2007, Annals of Applied Statistics 1:386. Of S seeds S - 1 are drawn: S draws
    would make the variance between seeds too small by (S - 1) / S (Rao and Wu 1988, JASA 83:231). The interval is on the
    wide side while seeds differ little, and with two or three seeds too narrow where they differ more than the test set's
    own noise. With one seed it covers test images only.

    Args:
        scores: [S, ...], one a seed.
        resampled: [B, S, ...], the same on B resampled test sets, which are shared by all seeds (and, in a paired
            difference, by both arms).
    """
    num_resamples, num_seeds = resampled.shape[:2]
    draws = max(1, num_seeds - 1)
    weights = draw_counts(num_seeds, draws, num_resamples, rng) / draws
    replicates = np.einsum("bs,bs...->b...", weights, resampled)
    low, high = _nan_quantile(replicates, (0.025, 0.975))
    return Estimate(np.mean(scores, 0), low, high)


def half_width(share: float, num_images: int) -> float:
    """Half the 95 % interval of a share of `num_images` independent images, by the normal approximation."""
    return NormalDist().inv_cdf(0.975) * (share * (1 - share) / num_images) ** 0.5


def _class_mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(-1) / known.sum(-1)


def _nan_quantile(values: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    return (
        np.quantile(values, levels, axis=0)
        if np.isfinite(values).all()
        else np.nanquantile(values, levels, axis=0)
    )
