"""Thresholds, sensitivity and specificity against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_curve

from skinaug.metrics.operating_points import verdict_terms, youden_thresholds
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
