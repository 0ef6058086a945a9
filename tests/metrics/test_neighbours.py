"""Neighbours against a plain similarity matrix."""

from __future__ import annotations

import numpy as np
import pytest

from skinaug.errors import InputError
from skinaug.metrics.neighbours import nearest, nearest_of_other_groups


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def test_nearest_are_the_highest_cosines():
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(7, 12)), rng.normal(size=(40, 12))
    similarities, rows = nearest(queries, references, 4)
    expected = np.sort(cosines(queries, references), axis=1)[:, ::-1][:, :4]
    np.testing.assert_allclose(similarities, expected, atol=1e-7)
    np.testing.assert_allclose(np.take_along_axis(cosines(queries, references), rows, 1), expected, atol=1e-7)


def test_length_does_not_matter():
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(5, 8)), rng.normal(size=(30, 8))
    stretched = references * rng.uniform(0.1, 10, size=(30, 1))
    np.testing.assert_array_equal(nearest(queries, references, 3)[1], nearest(queries * 5, stretched, 3)[1])


def test_ones_own_patient_does_not_count():
    rng = np.random.default_rng(0)
    vectors, groups = rng.normal(size=(30, 8)), rng.integers(0, 12, 30).astype(str)
    allowed = np.where(groups[:, None] == groups[None], -np.inf, cosines(vectors, vectors))
    expected = np.sort(allowed, axis=1)[:, ::-1][:, :3]
    np.testing.assert_allclose(nearest_of_other_groups(vectors, groups, 3), expected, atol=1e-7)


def test_too_many_neighbours_are_refused():
    with pytest.raises(InputError, match="9 nearest neighbours were asked for among 8"):
        nearest(np.ones((2, 3)), np.ones((8, 3)), 9)
    with pytest.raises(
        InputError, match="2 nearest neighbours were asked for among 1 images of other patients"
    ):
        nearest_of_other_groups(np.ones((3, 3)), np.array(["a", "a", "b"]), 2)
