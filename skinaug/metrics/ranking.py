"""How well probabilities rank one class above the rest, where it counts: precision at the top, and the end of high sensitivity.

Both areas are told as what each image adds to them, so that their value on a reweighted test set is a sum, to first order.
"""

from __future__ import annotations

import numpy as np

LEAST_SENSITIVITY = 0.8  # of the partial area, as ISIC 2024 judges by


def precision_terms(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """What each image adds to the area under the precision-recall curve (AUPRC): float [N], whose sum over the number of
    positives is the average precision exactly.

    The sum over positives of the precision at their score is no sum over images; these terms are its first-order projection.
    Images of one score are taken at once. Average precision is the step-wise area, without the line between points that
    promises too much (Davis and Goadrich 2006, ICML 23:233).

    Args:
        scores: float [N], the higher, the more of the class.
        positive: bool [N].

    Returns:
        NaN where no image is positive.
    """
    if not positive.any():
        return np.full(len(scores), np.nan)
    values, place = np.unique(-scores, return_inverse=True)  # from the highest
    own = np.bincount(place, positive, len(values))
    found, taken = np.cumsum(own), np.cumsum(np.bincount(place, minlength=len(values)))
    precision = found / taken
    gained, lost = _from_here(own / taken), _from_here(own * found / taken**2)
    return np.where(positive, (precision + gained)[place], 0.0) - lost[place]


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the precision-recall curve, in [0, 1]; by chance, the share of positives. NaN without a positive."""
    return float(precision_terms(scores, positive).sum() / max(1, positive.sum()))


def partial_placements(
    scores: np.ndarray, positive: np.ndarray, least: float = LEAST_SENSITIVITY
) -> tuple[np.ndarray, np.ndarray]:
    """What each image adds to the area under the ROC curve above a sensitivity: float [N] each, as DeLong's placements.

    Mean of `above` over positives plus mean of `below` over negatives is the partial area, in [0, 1 - `least`]; `below` has a
    mean of 0. To first order, the same holds on a reweighted test set. Between the curve's points lies a straight line.
    Kurtansky et al. 2024, ISIC 2024: skin cancer detection with 3D-TBP; Dodd and Pepe 2003, Biometrics 59:614.

    Returns:
        NaN where no image is positive, or all are.
    """
    above, below = np.zeros(len(scores)), np.zeros(len(scores))
    if not positive.any() or positive.all():
        return above * np.nan, below * np.nan
    limit = 1 - least
    values, place = np.unique(scores, return_inverse=True)  # from the lowest
    missed, cleared = (
        np.bincount(place, of, len(values)) / of.sum() for of in (positive, ~positive)
    )  # shares of the positives and of the negatives that have this score
    missed_before, cleared_before = np.cumsum(missed) - missed, np.cumsum(cleared) - cleared
    width = np.clip(limit - missed_before, 0, missed)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(missed > 0, width / missed, missed_before < limit)  # of a score's images
    height = cleared_before + part * cleared / 2
    last = int(np.argmax(np.cumsum(missed) >= limit - 1e-12))
    border = cleared_before[last] + part[last] * cleared[last]
    area = (width * height).sum()
    behind = _from_here(width) - width + part * width / 2
    above[positive] = (part * (height - border) + limit * border)[place[positive]]
    below[~positive] = behind[place[~positive]] - area
    return above, below


def partial_auroc(scores: np.ndarray, positive: np.ndarray, least: float = LEAST_SENSITIVITY) -> float:
    """Area under the ROC curve above a sensitivity, in [0, 1 - `least`]; by chance (1 - `least`)² / 2. NaN where undefined."""
    above, _ = partial_placements(scores, positive, least)
    return float(above.sum() / max(1, positive.sum()))


def ranking_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`auprc` and `pauc`, one class against the rest, means over the classes that have images and do not have all.

    Args:
        probabilities: float [N, C].
        labels: int [N], class indices below C.
    """
    of = [(probabilities[:, c], labels == c) for c in range(probabilities.shape[1])]
    defined = [(scores, positive) for scores, positive in of if positive.any() and not positive.all()]
    if not defined:
        return dict.fromkeys(("auprc", "pauc"), float("nan"))
    return {
        "auprc": float(np.mean([average_precision(*each) for each in defined])),
        "pauc": float(np.mean([partial_auroc(*each) for each in defined])),
    }


def _from_here(values: np.ndarray) -> np.ndarray:
    """Sums of each value and all behind it."""
    return np.cumsum(values[::-1])[::-1]
