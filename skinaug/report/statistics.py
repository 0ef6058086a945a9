"""Intervals and tests for classification scores: two levels of chance, seeds and test patients, crossed.

Every score here is a ratio of sums over test images, so a resampled test set needs no pass over its images: each group's
(patient's) share of the sums is computed once, and 2,000 resampled test sets are one matrix product. They give the
variance that comes from the patients; the spread of the seeds gives the rest (`variance_of`).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

TOPS = (1, 2, 3)
LEVEL = 0.05  # chance of a false alarm that tests and intervals allow
FLOOR = (
    2 / 3
)  # of an interval over patients alone: none over patients and seeds is narrower (experiments/statistics.md)
HALVINGS = 50  # of a bracket around a logarithm: to the last digit
MOST_RATIO = 1e6  # ends of a ratio's interval beyond which it is unbounded
Sums = dict[str, np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]  # values of S seeds and, on B resampled test sets, [B, S]


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
    flat = [values.reshape(len(values), -1) for values in sums.values()]
    products = counts @ np.concatenate(flat, 1)  # one product: the counts are larger than all sums together
    parts = np.split(products, np.cumsum([part.shape[1] for part in flat])[:-1], axis=1)
    return {
        name: part.reshape(len(counts), *values.shape[1:])
        for (name, values), part in zip(sums.items(), parts, strict=True)
    }


def draw_counts(num_items: int, num_draws: int, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each item comes up in `num_draws` draws with replacement: float [num_resamples, num_items]."""
    drawn = (
        rng.integers(num_items, size=(num_resamples, num_draws))
        + num_items * np.arange(num_resamples)[:, None]
    )
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_items)
    return counts.reshape(num_resamples, num_items).astype(float)


@dataclass(frozen=True)
class Variance:
    """Where the chance in a mean over seeds comes from: floats, or arrays of one shape.

    Attributes:
        patients: variance that all seeds share, because they are tested on the same patients. With one seed, the variance
            over patients of that seed's score.
        seed: variance of one seed's score besides, from training (and from how patients meet it). 0 with one seed.
        num_seeds: S.
        meeting: variance over patients of one seed's score besides `patients`: how they meet that seed. Part of `seed`, which is
            estimated apart from it, from the spread of the seeds, and may come out smaller by chance. 0 with one seed.
        training: variance of the mean besides, from which photographs there happened to be to learn from, where folds or splits tell of
            it (`folds.with_training_sets`); further seeds do not lower it.
        num_sets: K folds or splits, from which `training` is known.
    """

    patients: np.ndarray
    seed: np.ndarray
    num_seeds: int
    meeting: np.ndarray | float = 0.0
    training: np.ndarray | float = 0.0
    num_sets: int = 1

    def of_mean(self, num_seeds: np.ndarray | int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Variance of the mean over S (or other many) seeds, and the degrees of freedom that it is known with.

        `(n - 1) total / (seed / n)`: as many as there are seeds less one where seeds make all of the variance, and
        more in proportion where the patients' part, taken as known, makes some of it. Satterthwaite's formula (1946,
        Biometrics Bulletin 2:110), which squares that ratio, gives too many when both are estimated from three seeds
        (92 % coverage simulated). The part of training sets counts alike, with as many degrees as there are sets less one.
        """
        count = self.num_seeds if num_seeds is None else num_seeds
        own = self.seed / count
        total = self.patients + own + self.training
        with np.errstate(divide="ignore", invalid="ignore"):
            unknown = np.where(own > 0, own / (count - 1), 0) + self.training / max(self.num_sets - 1, 1)
            freedom = np.where(unknown > 0, total / unknown, np.inf)
        return total, freedom

    def least(self, num_seeds: np.ndarray | int | None = None) -> np.ndarray:
        """The variance that intervals are held to: FLOOR of the error of that mean over patients, were training without chance."""
        count = self.num_seeds if num_seeds is None else num_seeds
        return FLOOR**2 * (self.patients + self.meeting / count)


def variance_of(scores: np.ndarray, resampled: np.ndarray) -> Variance:
    """Split the variance of a mean over seeds into what patients and what seeds bring.

    The spread of S seeds on one test set tells all that is a seed's own, chance in training and the chance of how patients
    meet it alike. The mean over seeds on resampled test sets tells the chance of patients, again with how they meet each
    seed: that part is counted twice, its size is the variance of seeds against each other over the resampled test sets,
    and it is taken out of the patients' part. These are the variance components of multi-reader studies, with seeds for
    readers (Obuchowski and Rockette 1995, Communications in Statistics 24:285; Hillis 2007, Statistics in Medicine 26:596).

    Args:
        scores: [S, ...], one a seed.
        resampled: [B, S, ...], the same on B resampled test sets, which are shared by all seeds (and, in a paired
            difference, by both arms). Those without a score (nan) are left out.
    """
    num_seeds = resampled.shape[1]
    patients = _variance(resampled.mean(1))
    if num_seeds == 1:
        return Variance(patients, np.zeros_like(patients), 1)
    twice = (_variance(resampled).mean(0) - patients) / (num_seeds - 1)
    shared = np.maximum(patients - twice, 0)
    return Variance(shared, np.var(scores, 0, ddof=1), num_seeds, (patients - shared) * num_seeds)


def two_level(scores: np.ndarray, resampled: np.ndarray, level: np.ndarray | float = LEVEL) -> Estimate:
    """Mean over seeds with its t interval (95 % unless told) over seeds and test patients.

    Simulated studies of 3, 5 and 10 seeds, whether seeds differ little or much, are covered 93 to 97 % of the time. At few
    seeds that has its price: with three, the interval is up to 2.2 times as wide as if chance in training were known.
    With one seed it covers test images only.

    Args:
        scores: [S, ...], one a seed.
        resampled: [B, S, ...], the same on B resampled test sets; see `variance_of`.
        level: chance of missing the truth, one or [...].
    """
    return interval(np.mean(scores, 0), variance_of(scores, resampled), level)


def interval(mean: np.ndarray, variance: Variance, level: np.ndarray | float = LEVEL) -> Estimate:
    """The t interval of a mean that misses the truth with chance `level`."""
    width = reach(variance, level)
    return Estimate(mean, mean - width, mean + width)


def reach(
    variance: Variance, level: np.ndarray | float = LEVEL, num_seeds: np.ndarray | int | None = None
) -> np.ndarray:
    """Half the width of the interval that misses the truth with chance `level`.

    At 95 % and below it is Student's with the degrees of freedom of `Variance.of_mean`. These are estimated too, and where
    seeds agree by chance they come out large just where the variance comes out small. An interval of 95 % bears that, one of
    99.9 %, as in a family of fifty arms, does not: with three seeds it missed eight times as often as it should. So beyond
    95 % the width grows as `_tail` does, in which seeds have the degrees of freedom that they have.

    No interval is narrower than two thirds of what the choice of patients makes of it when training is without chance. That
    binds where seeds agree more closely than patients let them; a floor of all of it would cover 99 % with three such seeds.

    Args:
        num_seeds: of a study that is planned; as many as there are unless told.
    """
    level = np.asarray(level, float)
    total, freedom = variance.of_mean(num_seeds)
    width = -stdtrit(freedom, np.maximum(level, LEVEL) / 2) * np.sqrt(total)
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = _tail(variance, level, num_seeds) / _tail(variance, LEVEL, num_seeds)
    width = np.where((level < LEVEL) & (total > 0), width * grown, width)
    return np.maximum(width, -ndtri(level / 2) * np.sqrt(variance.least(num_seeds)))


def _tail(
    variance: Variance, level: np.ndarray | float, num_seeds: np.ndarray | int | None = None
) -> np.ndarray:
    """Half the interval of a sum of a normal variable, of known variance, and Student's of seeds and of training sets, with as many degrees
    of freedom as there are less one: the squares of their own halves added up. Howe 1974, JASA 69:789; never too narrow at levels of 5 % or less."""
    count = variance.num_seeds if num_seeds is None else num_seeds
    known = ndtri(np.asarray(level) / 2) * np.sqrt(variance.patients)
    seeds = stdtrit(np.maximum(count - 1, 1), np.asarray(level) / 2) * np.sqrt(variance.seed / count)
    sets = stdtrit(max(variance.num_sets - 1, 1), np.asarray(level) / 2) * np.sqrt(variance.training)
    return np.hypot(np.hypot(known, seeds), sets)


def ratio(above: Pair, below: Pair, level: float = LEVEL) -> Estimate | None:
    """One mean over seeds divided by another of the same seeds, and Fieller's interval: all ratios r for which the mean of
    above - r * below is not shown to differ from 0. Fieller 1954, JRSS B 16:175.

    Args:
        above, below: values of S seeds, [S], and the same on B resampled test sets, [B, S], whose rows go together.

    Returns:
        None where `below` itself is not shown to differ from 0: then any ratio might be.
    """

    def beyond(of: float) -> float:
        scores, resampled = (up - of * down for up, down in zip(above, below, strict=True))
        return float(abs(scores.mean(0)) - reach(variance_of(scores, resampled), level))

    if not p_value(below[0].mean(0), variance_of(*below)) < level:
        return None
    middle = float(above[0].mean() / below[0].mean())
    ends = []
    for side in (-1, 1):
        width = 0.5
        while beyond(middle + side * width) < 0 and width < MOST_RATIO:
            width *= 2
        unbounded = width >= MOST_RATIO
        ends.append(side * np.inf if unbounded else brentq(beyond, middle, middle + side * width))
    return Estimate(np.asarray(middle), *map(np.asarray, ends))


def p_value(mean: np.ndarray, variance: Variance) -> np.ndarray:
    """Two-sided p-value of a difference of 0: below `level` exactly where `interval` at that level excludes 0."""
    total, freedom = variance.of_mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        t, floored = (np.where(mean == 0, 0, np.abs(mean) / np.sqrt(of)) for of in (total, variance.least()))
    p = np.where(np.isinf(t), 0, 2 * stdtr(freedom, -t))  # which is nan where both are infinite
    if (p < LEVEL).any():
        p = np.where(p < LEVEL, _tail_p(t / -stdtrit(freedom, LEVEL / 2), variance), p)
    return np.maximum(p, 2 * ndtr(-floored))


def _tail_p(times: np.ndarray, variance: Variance) -> np.ndarray:
    """The level at which `_tail` is so many times what it is at 5 %."""
    total, _ = variance.of_mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        target = times * _tail(variance, LEVEL)
        t = target / np.sqrt(total)
        # A normal variable of the whole variance falls below that, Student's of it above.
        low, high = (np.log(2 * tail) for tail in (ndtr(-t), stdtr(max(variance.num_seeds - 1, 1), -t)))
        low = np.maximum(low, np.log(np.finfo(float).tiny))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            beyond = _tail(variance, np.exp(middle)) > target
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return np.where(np.isinf(times), 0, np.exp(high))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values of a family of tests: float [M] to [M]. Holm 1979, Scandinavian Journal of Statistics 6:65."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    adjusted = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1)
    return adjusted[np.argsort(order)]


def family_levels(p: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Level of each interval of a family so that it excludes 0 exactly where Holm's procedure rejects: float [M].

    Bonferroni's simultaneous intervals, `level` / M, but where Holm rejects and Bonferroni does not: there the interval is
    as narrow as Holm's step (Serlin 1993, Journal of Experimental Education 61:350).
    """
    p = np.asarray(p, float)
    equal = level / max(1, len(p))
    adjusted = holm(p)
    stepped = (adjusted < level) & (p >= equal)
    with np.errstate(invalid="ignore"):
        return np.where(stepped, level * p / adjusted, equal)


def effect_size(difference: np.ndarray, variance: Variance) -> np.ndarray:
    """Cohen's d_z over seeds: the paired difference over its standard deviation between seeds; nan where that is unknown or 0.

    How large a difference is beside what training again with another seed changes. Unlike effect sizes for shares (Cohen's
    h) it is defined for every score, and unlike t it does not grow with the number of seeds. Cohen 1988, Statistical Power
    Analysis for the Behavioral Sciences, 2.3.5.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance.seed > 0, difference / np.sqrt(variance.seed), np.nan)


def half_width(share: float, num_images: int) -> float:
    """Half the 95 % interval of a share of `num_images` independent images, by the normal approximation."""
    return NormalDist().inv_cdf(0.975) * (share * (1 - share) / num_images) ** 0.5


def _class_mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(-1) / known.sum(-1)


def _variance(values: np.ndarray) -> np.ndarray:
    """Variance over the first axis; values that are nan are left out."""
    return np.var(values, 0, ddof=1) if np.isfinite(values).all() else np.nanvar(values, 0, ddof=1)
