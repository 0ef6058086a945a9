"""How far off ordered classes are named: Cohen's kappa with quadratic weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def kappa_terms(predicted: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What each image adds to the sums that `quadratic_kappa` needs: float [N] each.

    Args:
        predicted, labels: int [N], places among the ordered classes.
    """
    guess, truth = predicted.astype(float), labels.astype(float)
    return {
        "images": np.ones(len(truth)),
        "guess": guess,
        "truth": truth,
        "guess_squared": guess**2,
        "truth_squared": truth**2,
        "off_squared": (guess - truth) ** 2,
    }


def quadratic_kappa(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """Agreement beyond chance, in [-1, 1], from sums over any leading shape; NaN where all is of one class.

    One less the squared distance between truth and verdict, over that of verdicts dealt out by chance.
    Cohen 1968, Psychological Bulletin 70:213.
    """
    expected = sums["guess_squared"] + sums["truth_squared"]
    expected = expected - 2 * sums["guess"] * sums["truth"] / sums["images"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - sums["off_squared"] / expected, np.nan)
