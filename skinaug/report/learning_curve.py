"""A learning curve of real images, inverted at an arm's score: real images that do as much, and what a synthetic one is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from skinaug.report import statistics
from skinaug.report.tables import number

LEAST_POINTS = 3  # that make a curve
STEPS = 120  # of the curve that the interval is searched on: of 10 to 1,000 images, 4 % a step


@dataclass(frozen=True)
class Curve:
    """Scores of arms of real images only.

    Attributes:
        counts: float [K], real images a class, rising.
        scores: float [S, K], on the test set.
        resampled: float [B, S, K], on resampled test sets.
    """

    counts: np.ndarray
    scores: np.ndarray
    resampled: np.ndarray


@dataclass(frozen=True)
class Worth:
    """Real images a class that do as much as an arm's, and how many each of its synthetic ones is worth.

    Attributes:
        equivalent: real images a class; inf above the curve's highest point, -inf below its lowest.
        rate: (equivalent - the arm's real images) / its synthetic ones; inf and -inf as above.
        low, high: 95 % interval of the rate; -inf and inf where the curve does not bound it.
    """

    equivalent: float
    rate: float
    low: float
    high: float


def no_curve(curve: Curve) -> str:
    """Why a curve cannot measure what images are worth; empty where it can."""
    if len(curve.counts) < LEAST_POINTS:
        return f"it takes arms of real images only at {LEAST_POINTS} counts a class or more, and there are {len(curve.counts)}"
    rise = statistics.two_level(
        *(values[..., -1] - values[..., 0] for values in (curve.scores, curve.resampled))
    )
    if not rise.low > 0:
        least, most = (number(round(count)) for count in curve.counts[[0, -1]])
        return f"top-1 is not shown to rise from {least} to {most} real images a class, so that nothing can be read off it"
    return ""


def worth(curve: Curve, scores: np.ndarray, resampled: np.ndarray, real: float, synthetic: float) -> Worth:
    """Invert the learning curve of real images at an arm's score.

    The curve is a straight line against the logarithm of the count between its points, whose means are made to rise
    (isotonic regression) for the point estimate: three to six noisy points do not determine a power law, and equal steps a
    doubling are what learning curves look like between neighbours. Where the true curve bends within a step, it lies above
    that line and the equivalent comes out a little large. Nothing is extrapolated.

    The interval holds every count whose score on the curve is not told apart from the arm's by the paired two-level
    interval of their difference (as Fieller's does for a ratio: 1954, Journal of the Royal Statistical Society B 16:175),
    so that it opens where the curve is flat. Beyond the curve's ends it relies on no more than that scores do not fall as
    real images are added.

    Args:
        curve: at the arm's own seeds and on the same resampled test sets.
        scores: float [S] of the arm; `resampled`: float [B, S].
        real, synthetic: images a class that the arm trains on; synthetic above 0.
    """
    places = np.log(curve.counts)
    risen = isotonic_regression(curve.scores.mean(0)).x
    score = float(scores.mean())
    if score > risen[-1]:
        equivalent = np.inf
    elif score < risen[0]:
        equivalent = -np.inf
    else:
        equivalent = float(np.exp(_first_place(places, risen, score)))
    grid = np.unique(np.concatenate([places, np.linspace(places[0], places[-1], STEPS)]))
    weights = np.stack([np.interp(grid, places, unit) for unit in np.eye(len(places))])
    apart = statistics.two_level(
        scores[:, None] - curve.scores @ weights, resampled[..., None] - curve.resampled @ weights
    )
    low, high = _bounds(np.exp(grid), apart)
    return Worth(equivalent, *((count - real) / synthetic for count in (equivalent, low, high)))


def _first_place(places: np.ndarray, risen: np.ndarray, score: float) -> float:
    """Where a rising line first reaches a score that lies within it."""
    above = int(np.argmax(risen >= score))
    if above == 0:
        return float(places[0])
    share = (score - risen[above - 1]) / (risen[above] - risen[above - 1])
    return float(places[above - 1] + share * (places[above] - places[above - 1]))


def _bounds(counts: np.ndarray, apart: statistics.Estimate) -> tuple[float, float]:
    """Least and largest count that the arm's score is not told apart from: of counts rising, and arm less curve at each."""
    above, below = (
        apart.low > 0,
        apart.high < 0,
    )  # the arm is surely better, surely worse, than that many real images
    low = -np.inf if not above[0] else counts[-1] if above.all() else counts[np.argmin(above)]
    high = np.inf if not below[-1] else counts[0] if below.all() else counts[::-1][np.argmin(below[::-1])]
    return (float(low), float(high)) if low <= high else (float(high), float(low))
