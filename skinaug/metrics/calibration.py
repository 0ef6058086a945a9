"""Whether probabilities can be taken at their word: calibration of the confidence, and errors left when the unsure ones go.

Confidence is the largest probability of an image, and an image is right where that is its true class's (ties go to the
lower class index).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

BINS = 15  # of equal width, as in Guo et al. 2017
LEAST_PROBABILITY = 1e-30  # that has a logarithm


def confidences(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, float [N] in [1 / C, 1], and whether the class that it stands for is the true one, bool [N].

    Args:
        probabilities: float [N, C], rows that sum to 1.
        labels: int [N], class indices below C.
    """
    return probabilities.max(1).astype(float), probabilities.argmax(1) == labels


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """Which of the 15 bins ((m - 1) / 15, m / 15] each confidence falls into: bool [N, 15]."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    return np.searchsorted(edges, confidence)[:, None] == np.arange(BINS)


def ece(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error of the top label, in [0, 1]: mean over images of the distance between the confidence and the
    accuracy of their bin, in 15 bins of equal width.

    Naeini, Cooper and Hauskrecht 2015, AAAI 29; Guo et al. 2017, ICML 70:1321, equation 3. It is above 0 by chance even
    where the probabilities are true: see `chance_ece`.
    """
    confidence, right = confidences(probabilities, labels)
    gaps = (confidence - right) @ confidence_bins(confidence)
    return float(np.abs(gaps).sum() / len(labels))


def chance_ece(probabilities: np.ndarray) -> float:
    """The calibration error that as many images would show, on average, if every confidence were true.

    The sum of a bin's deviations is close to normal with variance sum p (1 - p), and the mean size of a normal one is
    sqrt(2 / pi) of its standard deviation. Images are taken to be independent: several of a patient make it larger.
    After the consistency resampling of Bröcker and Smith 2007, Weather and Forecasting 22:651.
    """
    confidence = probabilities.max(1).astype(float)
    variances = (confidence * (1 - confidence)) @ confidence_bins(confidence)
    return float(np.sqrt(2 / np.pi * variances).sum() / len(confidence))


def brier_terms(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance between the probabilities and the truth, summed over classes: float [N] in [0, 2].

    Their mean is the Brier score (Brier 1950, Monthly Weather Review 78:1), of which (C - 1) / C is what equal
    probabilities get.
    """
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    return ((probabilities - truth) ** 2).sum(1).astype(float)


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of errors among the most confident images, as ever more are answered: coverage and risk, float [N] each.

    Images of one confidence share their errors evenly, so that the order of the rows does not matter.
    El-Yaniv and Wiener 2010, JMLR 11:1605.
    """
    order, block = _by_confidence(confidence)
    counts = np.arange(1, len(order) + 1)
    return counts / len(order), np.cumsum(_block_means(1.0 - right[order], block)) / counts


def aurc_terms(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What each image adds to the area under the risk-coverage curve (AURC): float [N], whose mean is the area exactly.

    The area, mean of the risks at coverages 1 / N to 1, is not a mean over images; these terms are its first-order
    projection, so that their weighted mean is the area on a reweighted test set to first order. An image enters twice: with
    the risk at its own place, and with what its own error does to the risks of all places behind it.
    Area: Geifman and El-Yaniv 2019, ICLR (bias-reduced uncertainty estimation).
    """
    order, block = _by_confidence(confidence)
    errors = _block_means(1.0 - right[order], block)
    counts = np.arange(1, len(order) + 1)
    risks = np.cumsum(errors) / counts
    behind = (errors * _sum_from_here(1 / counts)) - _sum_from_here(risks / counts)
    terms = np.empty(len(order))
    terms[order] = _block_means(risks + behind, block)
    return terms


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature by which logits are divided so that the probabilities of true classes become most likely: above 1 where
    a classifier is too sure.

    Guo et al. 2017, ICML 70:1321. Ends at 0.01 or 100 where a classifier is right, or wrong, of every image.

    Args:
        probabilities: float [N, C] of validation images.
        labels: int [N], class indices below C.
    """
    logits = np.log(np.maximum(probabilities.astype(float), LEAST_PROBABILITY))
    own = np.take_along_axis(logits, labels[:, None], 1)[:, 0]

    def slope(log_temperature: float) -> float:
        """Of the mean negative log-likelihood by the inverse temperature: it rises with it, for that is convex."""
        weights = _softmax(logits * np.exp(-log_temperature))
        return float(((weights * logits).sum(1) - own).mean())

    low, high = np.log(0.01), np.log(100)
    if slope(low) <= 0 or slope(high) >= 0:
        return float(np.exp(low if slope(low) <= 0 else high))
    return float(np.exp(brentq(slope, low, high)))


def tempered(probabilities: np.ndarray, by: float) -> np.ndarray:
    """Probabilities whose logits are divided by a temperature: float [N, C], rows that sum to 1. The most probable class stays."""
    return _softmax(np.log(np.maximum(probabilities.astype(float), LEAST_PROBABILITY)) / by)


def log_loss_terms(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each image's true class, in nats: float [N], at most 69."""
    own = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
    return -np.log(np.maximum(own.astype(float), LEAST_PROBABILITY))


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def _by_confidence(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order from sure to unsure, and the number of the run of equal confidences that each place belongs to: int [N] each."""
    order = np.argsort(-confidence, kind="stable")
    return order, np.cumsum(np.diff(confidence[order], prepend=confidence[order[0]]) != 0)


def _block_means(values: np.ndarray, block: np.ndarray) -> np.ndarray:
    return (np.bincount(block, values) / np.bincount(block))[block]


def _sum_from_here(values: np.ndarray) -> np.ndarray:
    return np.cumsum(values[::-1])[::-1]
