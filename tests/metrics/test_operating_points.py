"""Thresholds, sensitivity and specificity against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score, roc_curve

from skinaug.metrics.operating_points import (
    net_benefit,
    predictive_values,
    thresholds_at,
    verdict_terms,
    youden_thresholds,
)
from tests.metrics.test_calibration import predictions


@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.booleans())
def test_no_threshold_of_the_roc_curve_does_better(seed: int, num_images: int, ties: bool):
    p, y = predictions(seed, num_images, 4)
    p = np.round(p, 1) if ties else p
    for c, threshold in enumerate(youden_thresholds(p, y)):
        positive = y == c
        if not positive.any() or positive.all():
            assert np.isnan(threshold)
            continue
        alarms, found, _ = roc_curve(positive, p[:, c], drop_intermediate=False)
        taken = p[:, c] >= threshold
        assert taken[positive].mean() - taken[~positive].mean() == pytest.approx((found - alarms).max())


def test_a_threshold_lies_midway():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    assert youden_thresholds(p, np.array([0, 0, 1, 1])) == pytest.approx([0.6, 0.4])


@given(st.integers(0, 2**32 - 1))
def test_sensitivity_and_specificity_equal_scikit_learn(seed: int):
    p, y = predictions(seed, 100, 4)
    thresholds = np.array([0.2, 0.35, np.nan, 0.5])
    sums = {name: terms.sum(0) for name, terms in verdict_terms(p, y, thresholds).items()}
    for c in (0, 1, 3):
        (cleared, _), (_, found) = confusion_matrix(y == c, p[:, c] >= thresholds[c], labels=[False, True])
        assert (sums["found"][c], sums["cleared"][c]) == (found, cleared)
        assert (sums["positive"][c], sums["negative"][c]) == ((y == c).sum(), (y != c).sum())
    assert np.isnan([sums["found"][2], sums["cleared"][2]]).all()


@given(
    st.integers(0, 2**32 - 1), st.integers(2, 80), st.booleans(), st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0])
)
def test_a_kept_rate_is_kept_and_no_threshold_does_better(
    seed: int, num_images: int, ties: bool, least: float
):
    p, y = predictions(seed, num_images, 4)
    p = np.round(p, 1) if ties else p
    for rate in ("sensitivity", "specificity"):
        for c, threshold in enumerate(thresholds_at(p, y, rate, [least])[0]):
            positive = y == c
            if not positive.any() or positive.all():
                assert np.isnan(threshold)
                continue
            alarms, found, _ = roc_curve(positive, p[:, c], drop_intermediate=False)
            taken = p[:, c] >= threshold
            rates = {"sensitivity": taken[positive].mean(), "specificity": (~taken)[~positive].mean()}
            assert rates[rate] >= least - 1e-9
            if rate == "sensitivity":
                assert rates["specificity"] == pytest.approx((1 - alarms)[found >= least - 1e-9].max())
            else:
                assert rates["sensitivity"] == pytest.approx(found[1 - alarms >= least - 1e-9].max())


def test_no_image_is_taken_where_the_surest_is_a_false_alarm():
    p = np.array([[1.0], [0.7], [0.2]])
    threshold = thresholds_at(np.hstack([p, 1 - p]), np.array([1, 0, 1]), "specificity", [0.9])[0, 0]
    assert threshold > 1
    assert not (p >= threshold).any()


def test_predictive_values_follow_bayes_and_counting():
    ppv, npv = predictive_values(np.array(0.9), np.array(0.8), 0.1)
    assert ppv == pytest.approx(0.09 / (0.09 + 0.18))
    assert npv == pytest.approx(0.72 / (0.72 + 0.01))
    rng = np.random.default_rng(0)
    y, taken = rng.uniform(size=500) < 0.3, rng.uniform(size=500) < 0.4
    found = predictive_values(taken[y].mean(), (~taken)[~y].mean(), y.mean())
    assert found == pytest.approx((precision_score(y, taken), precision_score(~y, ~taken)))
    assert np.isnan(predictive_values(np.array(0.0), np.array(1.0), 0.1)[0]), "nothing is taken"


def test_net_benefit_counts_false_alarms_by_the_odds():
    rng = np.random.default_rng(0)
    y = rng.uniform(size=400) < 0.25
    p = np.clip(0.25 + 0.3 * (y - 0.25) + rng.normal(0, 0.15, 400), 0, 1)
    for threshold in (0.1, 0.3, 0.5):
        taken = p >= threshold
        counted = (taken & y).sum() / 400 - (taken & ~y).sum() / 400 * threshold / (1 - threshold)
        rates = taken[y].mean(), (~taken)[~y].mean()
        assert net_benefit(*rates, y.mean(), np.array(threshold)) == pytest.approx(counted)
        assert net_benefit(np.array(1.0), np.array(1.0), y.mean(), np.array(threshold)) == pytest.approx(
            y.mean()
        )
    at_prevalence = net_benefit(np.array(1.0), np.array(0.0), 0.25, np.array(0.25))
    assert at_prevalence == pytest.approx(0), "acting on everybody breaks even at the prevalence"
