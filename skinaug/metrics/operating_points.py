"""Thresholds for one class against the rest, chosen on validation images."""

from __future__ import annotations

import numpy as np


def youden_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each class, the threshold with the largest sensitivity + specificity - 1: float [C] in [0, 1].

    An image is taken for a class where its probability is the threshold or more. The threshold lies midway between two
    neighbouring probabilities, so that it leans to neither side; where several do equally well, the highest is taken.
    Youden 1950, Cancer 3:32.

    Args:
        probabilities: float [N, C] of validation images: a threshold chosen on test images would flatter itself.
        labels: int [N], class indices below C.

    Returns:
        NaN for a class that no image has, or all have: it has no threshold.
    """
    num_classes = probabilities.shape[1]
    return np.array([_threshold(probabilities[:, c].astype(float), labels == c) for c in range(num_classes)])


def _threshold(scores: np.ndarray, positive: np.ndarray) -> float:
    if not positive.any() or positive.all():
        return float("nan")
    values, place = np.unique(-scores, return_inverse=True)  # from the highest
    found = np.cumsum(np.bincount(place, positive))
    alarms = np.cumsum(np.bincount(place, ~positive))
    best = int(np.argmax(found / found[-1] - alarms / alarms[-1]))
    following = -values[best + 1] if best + 1 < len(values) else 0.0
    return float(-values[best] + following) / 2


def verdict_terms(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: np.ndarray
) -> dict[str, np.ndarray]:
    """What each image adds to sensitivity and specificity of each class: float [N, C], NaN for classes without a threshold.

    Args:
        thresholds: float [C].

    Returns:
        `positive` and `negative` (the image is, or is not, of the class), `found` (positive and taken for the class) and
        `cleared` (negative and not taken for it): sensitivity is found / positive, specificity cleared / negative.
    """
    positive = labels[:, None] == np.arange(probabilities.shape[1])
    taken = probabilities >= thresholds
    unknown = np.where(np.isnan(thresholds), np.nan, 0.0)
    return {
        "positive": positive.astype(float),
        "negative": (~positive).astype(float),
        "found": (positive & taken) + unknown,
        "cleared": (~positive & ~taken) + unknown,
    }
