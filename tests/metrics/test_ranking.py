"""Average precision and partial AUROC against scikit-learn, and on repeated images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from skinaug.metrics.ranking import (
    average_precision,
    partial_auroc,
    partial_placements,
    precision_terms,
    ranking_metrics,
)


def ranked(seed: int, num_images: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.uniform(size=num_images) < 0.3
    scores = rng.normal(size=num_images) + positive
    return np.round(scores, 0 if ties else 9), positive


def isic_2024(truth: np.ndarray, scores: np.ndarray, least: float = 0.8) -> float:
    """The challenge's score, after its own code: scikit-learn's standardised partial area of the classes turned round."""
    most = 1 - least
    scaled = roc_auc_score(~truth, -scores, max_fpr=most)
    return 0.5 * most**2 + (most - 0.5 * most**2) / (1 - 0.5) * (scaled - 0.5)


@given(st.integers(0, 2**32 - 1), st.integers(4, 90), st.booleans())
def test_areas_equal_scikit_learn(seed: int, num_images: int, ties: bool):
    scores, positive = ranked(seed, num_images, ties)
    if not positive.any():
        assert np.isnan(average_precision(scores, positive))
        return
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores))
    if positive.all():
        assert np.isnan(partial_auroc(scores, positive))
        return
    assert partial_auroc(scores, positive) == pytest.approx(isic_2024(positive, scores))
    assert partial_auroc(scores, positive, 0) == pytest.approx(roc_auc_score(positive, scores))
    assert partial_placements(scores, positive)[1].mean() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_terms_follow_a_reweighted_test_set(ties: bool):
    """Resampled test sets of 600 images: the sums of the terms against scikit-learn on the images repeated."""
    scores, positive = ranked(3, 600, False)
    scores = np.round(scores, 1) if ties else scores
    rng = np.random.default_rng(0)
    precision, (above, below) = precision_terms(scores, positive), partial_placements(scores, positive)
    exact, ours = [], []
    for _ in range(200):
        counts = rng.multinomial(600, np.full(600, 1 / 600))
        again, of = np.repeat(scores, counts), np.repeat(positive, counts)
        exact.append((average_precision_score(of, again), isic_2024(of, again)))
        num = counts @ positive
        ours.append((counts @ precision / num, counts @ above / num + counts @ below / (600 - num)))
    exact, ours = np.array(exact), np.array(ours)
    assert np.corrcoef(exact[:, 0], ours[:, 0])[0, 1] > 0.98
    assert np.corrcoef(exact[:, 1], ours[:, 1])[0, 1] > 0.98
    assert ours.std(0) == pytest.approx(exact.std(0), rel=0.1)
    assert ours.mean(0) == pytest.approx(exact.mean(0), abs=0.01)


def test_interval_of_average_precision_equals_a_bootstrap_by_another_hand():
    """Recorded with mlstatkit 0.1.91: 4,000 bootstraps of 400 images, percentiles."""
    point, low, high = 0.7698039836950198, 0.7035122360888816, 0.8319640503883071
    rng = np.random.default_rng(17)
    group, y = rng.integers(3, size=400), rng.uniform(size=400) < 0.4
    p = np.clip(0.5 + 0.25 * (y - 0.5) * (1 + group) / 2 + rng.normal(0, 0.2, 400), 0.001, 0.999)
    assert average_precision(p, y) == pytest.approx(point)
    counts = rng.multinomial(400, np.full(400, 1 / 400), size=4000)
    drawn = counts @ precision_terms(p, y) / (counts @ y)
    assert np.diff(np.percentile(drawn, [2.5, 97.5])) == pytest.approx([high - low], rel=0.05)


def test_closed_forms():
    order, first = np.arange(10)[::-1] / 10, np.arange(10) < 4
    assert average_precision(order, first) == 1
    assert average_precision(order, ~first) == pytest.approx(np.mean([k / (4 + k) for k in range(1, 7)]))
    assert average_precision(np.zeros(10), first) == pytest.approx(0.4), (
        "without a ranking, the share of positives"
    )
    assert partial_auroc(order, first) == pytest.approx(0.2)
    assert partial_auroc(np.zeros(10), first) == pytest.approx(0.02), "by chance half of 0.2 squared"
    assert partial_auroc(order, ~first) == 0


def test_classes_without_an_image_are_left_out_of_the_means():
    rng = np.random.default_rng(1)
    p, labels = rng.dirichlet(np.ones(4), 50), rng.integers(3, size=50)
    found = ranking_metrics(p, labels)
    one = [average_precision_score(labels == c, p[:, c]) for c in range(3)]
    assert found["auprc"] == pytest.approx(np.mean(one))
    assert found["pauc"] == pytest.approx(np.mean([isic_2024(labels == c, p[:, c]) for c in range(3)]))
    assert np.isnan(list(ranking_metrics(p, np.zeros(50, int)).values())).all()
