"""Calibration and selective risk against torchmetrics, scikit-learn, their definitions and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from skinaug.metrics import calibration

SEEDS = st.integers(0, 2**32 - 1)


def predictions(seed: int, num_images: int = 200, num_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_images)
    logits = 1.5 * rng.normal(size=(num_images, num_classes)) + 1.2 * np.eye(num_classes)[labels]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


@given(SEEDS, st.integers(1, 300), st.integers(2, 8))
def test_calibration_error_equals_torchmetrics(seed: int, num_images: int, num_classes: int):
    p, y = predictions(seed, num_images, num_classes)
    expected = multiclass_calibration_error(
        torch.as_tensor(p), torch.as_tensor(y), num_classes, n_bins=calibration.BINS, norm="l1"
    )
    assert calibration.ece(p, y) == pytest.approx(float(expected), abs=1e-6)


def test_calibration_error_of_known_bins():
    p = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 30)
    y = np.array([0] * 5 + [1] * 5 + [1] * 27 + [0] * 3)  # half right at 0.9, nine tenths at 0.6
    assert calibration.ece(p, y) == pytest.approx(0.25 * 0.4 + 0.75 * 0.3)


def test_bins_are_closed_above():
    edges = np.linspace(0, 1, calibration.BINS + 1)[1:]
    np.testing.assert_array_equal(calibration.confidence_bins(edges).argmax(1), np.arange(calibration.BINS))
    above = np.nextafter(edges[:-1], 1)
    np.testing.assert_array_equal(
        calibration.confidence_bins(above).argmax(1), 1 + np.arange(calibration.BINS - 1)
    )


def test_true_probabilities_show_the_error_of_chance():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(4, 0.7), 400)
    found = []
    for _ in range(300):
        y = (rng.uniform(size=(400, 1)) > p.cumsum(1)).sum(1).clip(max=3)
        found.append(calibration.ece(p, y))
    assert calibration.chance_ece(p) == pytest.approx(np.mean(found), rel=0.05)


@given(SEEDS)
def test_brier_score_equals_scikit_learn(seed: int):
    p, y = predictions(seed)
    expected = brier_score_loss(y, p, labels=range(5), scale_by_half=False)
    assert calibration.brier_terms(p, y).mean() == pytest.approx(expected)


def test_brier_score_of_equal_probabilities():
    assert calibration.brier_terms(np.full((7, 5), 0.2), np.arange(7) % 5) == pytest.approx([0.8] * 7)


@given(SEEDS, st.integers(1, 40))
def test_risk_at_each_coverage_is_the_error_of_the_surest(seed: int, num_images: int):
    confidence, right = calibration.confidences(*predictions(seed, num_images))
    coverage, risk = calibration.risk_coverage(confidence, right)
    surest = np.argsort(-confidence)
    expected = [np.mean(~right[surest[: k + 1]]) for k in range(num_images)]
    np.testing.assert_allclose(risk, expected)
    np.testing.assert_allclose(coverage, (np.arange(num_images) + 1) / num_images)


@given(SEEDS, st.integers(1, 40))
def test_area_is_the_mean_risk(seed: int, num_images: int):
    confidence, right = calibration.confidences(*predictions(seed, num_images))
    _, risk = calibration.risk_coverage(confidence, right)
    assert calibration.aurc_terms(confidence, right).mean() == pytest.approx(risk.mean())


def test_area_of_errors_that_come_last():
    """A perfect order with a share e of errors has the area e + (1 - e) log(1 - e)."""
    right = np.arange(20_000) < 14_000
    confidence = np.linspace(1, 0.2, 20_000)
    assert calibration.aurc_terms(confidence, right).mean() == pytest.approx(
        0.3 + 0.7 * np.log(0.7), abs=1e-4
    )


@given(SEEDS)
def test_equal_confidences_make_the_order_of_rows_irrelevant(seed: int):
    rng = np.random.default_rng(seed)
    confidence, right = rng.integers(1, 5, 30) / 5, rng.uniform(size=30) < 0.6
    order = rng.permutation(30)
    terms = calibration.aurc_terms(confidence, right)
    np.testing.assert_allclose(calibration.aurc_terms(confidence[order], right[order]), terms[order])
    shuffled = [
        calibration.risk_coverage(confidence + 1e-9 * rng.uniform(size=30), right)[1] for _ in range(2000)
    ]
    np.testing.assert_allclose(
        calibration.risk_coverage(confidence, right)[1], np.mean(shuffled, 0), atol=0.05
    )


def test_weighted_terms_follow_the_area_of_a_reweighted_set():
    rng = np.random.default_rng(3)
    confidence, right = calibration.confidences(*predictions(3, 400))
    terms = calibration.aurc_terms(confidence, right)
    exact, projected = [], []
    for _ in range(200):
        counts = rng.multinomial(400, np.full(400, 1 / 400))
        rows = np.repeat(np.arange(400), counts)
        exact.append(calibration.risk_coverage(confidence[rows], right[rows])[1].mean())
        projected.append(counts @ terms / 400)
    assert np.std(projected) == pytest.approx(np.std(exact), rel=0.05)
    assert np.corrcoef(exact, projected)[0, 1] > 0.99


def test_temperature_minimises_the_log_loss():
    p, y = predictions(3, 400)
    too_sure = calibration.tempered(p, 0.4)
    by = calibration.temperature(too_sure, y)
    grid = np.exp(np.linspace(-2, 2, 401))
    losses = [log_loss(y, calibration.tempered(too_sure, t), labels=range(5)) for t in grid]
    assert by == pytest.approx(grid[np.argmin(losses)], rel=0.02)
    assert by == pytest.approx(calibration.temperature(p, y) / 0.4)
    assert calibration.log_loss_terms(p, y).mean() == pytest.approx(log_loss(y, p, labels=range(5)))
    logits = torch.log(torch.as_tensor(p))
    np.testing.assert_allclose(calibration.tempered(p, 2.5), torch.softmax(logits / 2.5, 1).numpy())


def test_temperature_keeps_verdicts_and_ends_where_it_must():
    p, y = predictions(5)
    np.testing.assert_array_equal(calibration.tempered(p, 3).argmax(1), p.argmax(1))
    certain = np.eye(5)[y]
    assert calibration.temperature(certain, y) == pytest.approx(0.01), (
        "right of every image: never sure enough"
    )
    np.testing.assert_array_equal(calibration.tempered(certain, 0.01), certain)
    assert calibration.temperature(np.eye(5)[(y + 1) % 5], y) == pytest.approx(100), "wrong of every image"
