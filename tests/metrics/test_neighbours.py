"""Neighbours against a plain similarity matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skinaug.errors import InputError
from skinaug.metrics import neighbours
from skinaug.metrics.neighbours import (
    nearest,
    nearest_of_other_groups,
    radii,
    search_dtype,
    squared_distances,
)


@pytest.fixture(params=[7, 2048], ids=["blocks", "one block"])
def block(request, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", request.param)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a[:, None] - b[None], axis=2)


def plain_radii(vectors: np.ndarray, k: int) -> np.ndarray:
    return np.sort(distances(vectors, vectors), axis=1)[:, k]  # the nearest is the vector itself


@pytest.mark.usefixtures("block")
def test_nearest_are_the_highest_cosines():
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(17, 12)), rng.normal(size=(40, 12))
    similarities, rows = nearest(queries, references, 4)
    expected = np.sort(cosines(queries, references), axis=1)[:, ::-1][:, :4]
    np.testing.assert_allclose(similarities, expected, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosines(queries, references), rows, 1), expected, atol=1e-6)


def test_length_does_not_matter():
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(5, 8)), rng.normal(size=(30, 8))
    stretched = references * rng.uniform(0.1, 10, size=(30, 1))
    np.testing.assert_array_equal(nearest(queries, references, 3)[1], nearest(queries * 5, stretched, 3)[1])


def test_a_copy_has_similarity_one_and_no_more():
    vectors = np.random.default_rng(0).normal(size=(200, 50)).astype(np.float32)
    similarities, rows = nearest(vectors, vectors, 1)
    assert similarities.max() <= 1
    np.testing.assert_allclose(similarities, 1, atol=1e-6)
    np.testing.assert_array_equal(rows[:, 0], np.arange(200))


@pytest.mark.usefixtures("block")
def test_ones_own_patient_does_not_count():
    rng = np.random.default_rng(0)
    vectors, groups = rng.normal(size=(30, 8)), rng.integers(0, 12, 30).astype(str)
    allowed = np.where(groups[:, None] == groups[None], -np.inf, cosines(vectors, vectors))
    expected = np.sort(allowed, axis=1)[:, ::-1][:, :3]
    np.testing.assert_allclose(nearest_of_other_groups(vectors, groups, 3), expected, atol=1e-6)


def test_a_patient_with_most_images_does_not_hide_the_others():
    rng = np.random.default_rng(0)
    vectors, groups = rng.normal(size=(100, 8)), np.repeat(["big", "b", "c"], [97, 2, 1])
    found = nearest_of_other_groups(vectors, groups, 3)
    np.testing.assert_allclose(
        found[:97], np.sort(cosines(vectors[:97], vectors[97:]), axis=1)[:, ::-1], atol=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(2, 60), dimensions=st.integers(1, 20), k=st.integers(1, 20), seed=st.integers(0, 999)
)
def test_radii_reach_the_kth_other_vector(count, dimensions, k, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32) + 3
    k = min(k, count - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK", 7)
        patch.setattr(neighbours, "AT_ONCE", 5)
        np.testing.assert_allclose(radii(vectors, k), plain_radii(vectors, k), rtol=1e-5)


def test_radii_of_copies_are_zero():
    vectors = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    assert (radii(np.concatenate([vectors, vectors]), 1) == 0).all()


@pytest.mark.parametrize("offset", [0, 30], ids=["centred", "far from zero"])
def test_radii_of_many_vectors_are_those_of_few(offset, monkeypatch):
    """The bfloat16 search finds the neighbours of vectors in clusters and of pure noise, wherever their mean is."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 256))
    for spread, wrong in ((0.1, 0.05), (0.3, 0.002), (5, 0.002)):
        vectors = centres[rng.integers(0, 20, 1500)] + rng.normal(0, spread, size=(1500, 256)) + offset
        vectors = vectors.astype(np.float32)
        monkeypatch.setattr(neighbours, "search_dtype", lambda count: torch.float32)
        exact = radii(vectors, 5)
        monkeypatch.setattr(neighbours, "search_dtype", lambda count: torch.bfloat16)
        many = radii(vectors, 5)
        assert (many >= exact).all()
        assert (many > exact * (1 + 1e-6)).mean() <= wrong
        np.testing.assert_allclose(many, exact, rtol=2e-2)


def test_radii_of_few_vectors_need_no_spare_proposals(monkeypatch):
    """The float32 search is exact; the bfloat16 one is not, without them."""
    vectors = np.random.default_rng(0).normal(size=(500, 256)).astype(np.float32)
    monkeypatch.setattr(neighbours, "SPARE", 0)
    np.testing.assert_allclose(radii(vectors, 5), plain_radii(vectors, 5), rtol=1e-6)
    monkeypatch.setattr(neighbours, "search_dtype", lambda count: torch.bfloat16)
    assert (radii(vectors, 5) > plain_radii(vectors, 5) * (1 + 1e-6)).any()


@pytest.mark.parametrize(
    ("able", "many"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
        ({"neon": True}, torch.float32),
    ],
)
def test_many_vectors_are_multiplied_in_bfloat16_where_processors_can(able, many, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert search_dtype(20_000) == torch.float32
    assert search_dtype(20_001) == many


@pytest.mark.usefixtures("block")
def test_squared_distances_come_in_blocks_of_queries():
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(17, 12)) + 5, rng.normal(size=(40, 12)) + 5
    found = np.empty((17, 40))
    for rows, part in squared_distances(queries, references):
        found[rows] = part
    np.testing.assert_allclose(found, distances(queries, references) ** 2, rtol=1e-4)
    assert all((part >= 0).all() for _, part in squared_distances(queries, queries))


def test_too_many_neighbours_are_refused():
    with pytest.raises(InputError, match="9 nearest neighbours were asked for among 8"):
        nearest(np.ones((2, 3)), np.ones((8, 3)), 9)
    with pytest.raises(
        InputError, match="2 nearest neighbours were asked for among 1 images of other patients"
    ):
        nearest_of_other_groups(np.ones((3, 3)), np.array(["a", "a", "b"]), 2)
    with pytest.raises(InputError, match="3 nearest neighbours were asked for among 2 other images"):
        radii(np.ones((3, 4)), 3)
