"""Thresholds for one class against the rest, chosen on validation images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_PERCENT = (80, 90, 95)  # of a rate that a threshold keeps
TINY = 1e-9  # of an image, by which a share of a count may miss it in floats


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
    values, found, alarms = _curve(scores, positive)
    return _below(values, int(np.argmax(found / found[-1] - alarms / alarms[-1])))


def _curve(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct scores from the highest, and how many positives and negatives have each or more."""
    values, place = np.unique(-scores, return_inverse=True)
    return -values, np.cumsum(np.bincount(place, positive)), np.cumsum(np.bincount(place, ~positive))


def _below(values: np.ndarray, last: int) -> float:
    """The threshold that takes the values up to one of them: midway to the next."""
    following = values[last + 1] if last + 1 < len(values) else 0.0
    return float(values[last] + following) / 2


def thresholds_at(
    probabilities: np.ndarray, labels: np.ndarray, rate: str, least: Sequence[float]
) -> np.ndarray:
    """For each class, the thresholds that keep a rate at least so high and are else the best: float [L, C].

    At a least specificity it is the lowest such threshold, at a least sensitivity the highest, midway between two neighbouring
    probabilities, as `youden_thresholds`. It may lie above 1: then no image is taken for the class.

    Args:
        probabilities: float [N, C] of validation images.
        labels: int [N], class indices below C.
        rate: sensitivity or specificity.
        least: L shares in (0, 1].

    Returns:
        NaN for a class that no image has, or all have.
    """
    columns = ((probabilities[:, c].astype(float), labels == c) for c in range(probabilities.shape[1]))
    return np.array([_thresholds_at(scores, positive, rate, least) for scores, positive in columns]).T


def _thresholds_at(
    scores: np.ndarray, positive: np.ndarray, rate: str, least: Sequence[float]
) -> list[float]:
    if not positive.any() or positive.all():
        return [float("nan")] * len(least)
    values, found, alarms = _curve(scores, positive)
    if rate == "sensitivity":
        return [_below(values, int(np.argmax(found >= share * found[-1] - TINY))) for share in least]
    kept = [int((alarms <= (1 - share) * alarms[-1] + TINY).sum()) for share in least]
    # Above all where already the highest probability raises too many alarms.
    none = float(max(np.nextafter(values[0], 2), (values[0] + 1) / 2))
    return [_below(values, count - 1) if count else none for count in kept]


def operating_metrics(
    val: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """`sensitivity_at_<p>_specificity` and `specificity_at_<p>_sensitivity` of test images for p in 80, 90 and 95 per cent, at thresholds
    from validation images: means over the classes that both have.

    Args:
        val, test: probabilities float [N, C] and labels int [N].
    """
    found = {}
    for kept, told, denominator, hits in (
        ("specificity", "sensitivity", "positive", "found"),
        ("sensitivity", "specificity", "negative", "cleared"),
    ):
        chosen = thresholds_at(*val, kept, [percent / 100 for percent in LEAST_PERCENT])
        for percent, thresholds in zip(LEAST_PERCENT, chosen, strict=True):
            terms = verdict_terms(*test, thresholds)
            with np.errstate(divide="ignore", invalid="ignore"):
                rates = terms[hits].sum(0) / terms[denominator].sum(0)
            known = rates[np.isfinite(rates)]
            found[f"{told}_at_{percent}_{kept}"] = float(known.mean()) if known.size else float("nan")
    return found


def predictive_values(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Positive and negative predictive value where a stated share of patients has the class: PPV and NPV in [0, 1].

    Bayes's rule: sensitivity and specificity carry over to another prevalence where its patients are like those tested; the
    share of a test set that was put together by hand is nobody's prevalence. NaN where no image is taken, or none is cleared.
    Altman and Bland 1994, BMJ 309:102.
    """
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    cleared, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    with np.errstate(divide="ignore", invalid="ignore"):
        return true / (true + false), cleared / (cleared + missed)


def net_benefit(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: np.ndarray | float, threshold: np.ndarray
) -> np.ndarray:
    """What acting on the verdicts gains, in true positives a patient: at most the prevalence.

    True positives less false ones, each of which weighs as much as the threshold says: who acts from a probability of 10 % on
    takes nine false alarms for one find. Acting on nobody has a net benefit of 0; on everybody, sensitivity 1 and specificity 0.
    Vickers and Elkin 2006, Medical Decision Making 26:565.

    Args:
        threshold: probability from which somebody would act, below 1.
    """
    odds = threshold / (1 - threshold)
    return sensitivity * prevalence - (1 - specificity) * (1 - prevalence) * odds


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
