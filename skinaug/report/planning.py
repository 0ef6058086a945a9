"""Figures to plan a study with: differences that it could see, power, and the seeds that it takes, by the variance of one that is done."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from scipy.special import gammaincinv, nctdtr, nctdtrinc, ndtr

from skinaug.report.statistics import LEVEL, Variance, reach

POWER = 0.8  # chance of seeing a difference that planning figures ask for
SPREADS = (np.arange(200) + 0.5) / 200  # quantiles at which an estimated standard deviation is taken
MOST_SEEDS = 10_000  # more than anybody would train


def detectable(
    variance: Variance, level: float = LEVEL, num_seeds: np.ndarray | int | None = None
) -> np.ndarray:
    """Smallest true difference that a two-sided t test at `level` sees with 80 % power, were the variance as estimated.

    Args:
        num_seeds: of a study that is planned; as many as there are unless told.
    """
    error, freedom, limit = _planned(variance, level, num_seeds)
    return nctdtrinc(freedom, 1 - POWER, limit) * error


def power(
    difference: float, variance: Variance, level: float = LEVEL, num_seeds: np.ndarray | int | None = None
) -> np.ndarray:
    """Chance that the interval at `level` of a true difference above 0 lies above 0, were the variance as estimated.

    Args:
        num_seeds: of a study that is planned; as many as there are unless told.
    """
    error, freedom, limit = _planned(variance, level, num_seeds)
    with np.errstate(divide="ignore"):
        return np.where(error > 0, 1 - nctdtr(freedom, difference / error, limit), 1)


def power_within(
    margin: float, variance: Variance, level: float = LEVEL, num_seeds: np.ndarray | int | None = None
) -> float:
    """Chance that the interval at `level` of a true difference of 0 lies between minus and plus `margin`, as `power`.

    The mean over what the standard deviation may be estimated as: Owen's Q (1965, Biometrika 52:437), by quantiles.
    """
    error, freedom, limit = _planned(variance, level, num_seeds)
    if not error > 0:
        return 1.0
    spread = np.sqrt(2 * gammaincinv(freedom / 2, SPREADS) / freedom) if np.isfinite(freedom) else 1.0
    return float(np.maximum(2 * ndtr(margin / error - limit * spread) - 1, 0).mean())


def _planned(
    variance: Variance, level: float, num_seeds: np.ndarray | int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standard error of a difference, its degrees of freedom, and the multiple of the error that `reach` asks for."""
    total, freedom = variance.of_mean(num_seeds)
    error = np.sqrt(np.maximum(total, variance.least(num_seeds)))
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.where(error > 0, reach(variance, level, num_seeds) / error, 0)
    return error, freedom, limit


def seeds_needed(difference: float, variance: Variance, level: float = LEVEL) -> int | None:
    """Seeds with which 80 % of studies on these test patients would see a true difference as large as the observed one.

    A figure to plan with and no more: an observed difference is itself uncertain, and large ones shrink when repeated.

    Returns:
        None with one seed, whose spread is unknown, and where no number of seeds would do: the patients are too few.
    """
    if variance.num_seeds == 1:
        return None
    counts = range(2, MOST_SEEDS + 1)
    found = bisect_left(counts, True, key=lambda n: bool(detectable(variance, level, n) <= abs(difference)))
    return counts[found] if difference and found < len(counts) else None
