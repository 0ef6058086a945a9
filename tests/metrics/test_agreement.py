"""Quadratic kappa against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from skinaug.metrics.agreement import kappa_terms, quadratic_kappa


@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_kappa_equals_scikit_learn_on_repeated_images(seed: int, num_images: int):
    rng = np.random.default_rng(seed)
    labels, predicted, counts = (rng.integers(n, size=num_images) for n in (4, 4, 3))
    sums = {name: counts @ terms for name, terms in kappa_terms(predicted, labels).items()}
    y, guess = np.repeat(labels, counts), np.repeat(predicted, counts)
    if len(set(y) | set(guess)) < 2:
        with np.errstate(invalid="ignore"):
            assert np.isnan(quadratic_kappa({name: np.asarray(value) for name, value in sums.items()}))
        return
    expected = cohen_kappa_score(y, guess, weights="quadratic", labels=range(4))
    assert quadratic_kappa(sums) == pytest.approx(expected)


def test_the_further_off_the_worse():
    truth = np.array([0, 1, 2, 0, 1, 2])

    def kappa(predicted: list[int]) -> float:
        return float(
            quadratic_kappa({n: t.sum() for n, t in kappa_terms(np.array(predicted), truth).items()})
        )

    assert kappa([0, 1, 2, 0, 1, 2]) == 1
    assert kappa([0, 1, 2, 1, 1, 2]) > kappa([0, 1, 2, 2, 1, 2])
    assert kappa([2, 1, 0, 2, 1, 0]) == -1
