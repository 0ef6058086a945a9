"""Confirmed pairs against all pairs at once, and the memory that they take."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
import pytest

from skinaug.metrics import near_copies
from skinaug.metrics.hashes import hamming_pairs, match_blocks, pair_blocks
from skinaug.metrics.near_copies import confirmed_pairs


def hashes(count: int, seed: int) -> np.ndarray:
    """Like those of dermoscopic pictures: all within some bits of one."""
    flipped = np.random.default_rng(seed).random((count, 64)) < 0.07
    return np.packbits(flipped, axis=1).view(np.uint64).reshape(-1)


def by_brute_force(one, other, turned, most, views, least, within: bool) -> dict:
    found = {}
    for i in range(len(one)):
        for j in range(i + 1 if within else 0, len(other)):
            distance = min(int(one[i] ^ other[j]).bit_count(), int(one[i] ^ turned[j]).bit_count())
            cosines = [a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j]) for a, b in views]
            if distance <= most and max(cosines) >= least:
                found[i, j] = (distance, max(cosines))
    return found


@pytest.mark.parametrize("at_once", [7, 200, 10**6])
@pytest.mark.parametrize("within", [True, False])
def test_confirmed_pairs_are_those_of_all_pairs(at_once: int, within: bool, monkeypatch):
    monkeypatch.setattr("skinaug.metrics.hashes.COMPARED_AT_ONCE", at_once)
    monkeypatch.setattr(near_copies, "COMPARED_AT_ONCE", 3)
    rng = np.random.default_rng(0)
    one, other = hashes(40, 1), hashes(40 if within else 25, 1 if within else 2)
    turned = other ^ np.uint64(0x00FF00FF00FF00FF)
    vectors = rng.normal(size=(3, 40, 5)).astype(np.float32)
    views = [(vectors[0], vectors[0]), (vectors[0], vectors[1])] if within else [(vectors[0], vectors[2])]
    asked = []

    def features(left, right):
        asked.append((left.tolist(), right.tolist()))
        return [(a[left], b[right]) for a, b in views]

    blocks = partial(pair_blocks, one, turned, 8) if within else partial(match_blocks, one, other, turned, 8)
    pairs, distances, cosines = confirmed_pairs(blocks, features, 0.4)
    expected = by_brute_force(
        one, other, turned, 8, [[v.astype(float) for v in view] for view in views], 0.4, within
    )
    assert list(map(tuple, pairs.tolist())) == sorted(expected)
    assert distances.tolist() == [expected[pair][0] for pair in sorted(expected)]
    assert np.allclose(cosines, [expected[pair][1] for pair in sorted(expected)], rtol=0, atol=1e-12)
    assert 10 < len(expected) < 0.8 * sum(len(block[0]) for block in blocks()), "features refuse some pairs"
    assert len(asked) == 1
    assert asked[0] == ([*sorted({*asked[0][0]})], [*sorted({*asked[0][1]})])


def test_no_candidates_ask_for_no_features():
    far = np.array([0, 2**64 - 1], np.uint64)
    pairs, distances, cosines = confirmed_pairs(lambda: pair_blocks(far, far, 3), None, 0.9)
    assert pairs.shape == (0, 2)
    assert len(distances) == len(cosines) == 0


def test_memory_is_bounded_however_many_candidates_there_are():
    """Their features, a row a pair, would take half a gigabyte."""
    of_all, size = hashes(600, 0), 256
    vectors = np.random.default_rng(0).normal(size=(len(of_all), size)).astype(np.float32)
    candidates = len(hamming_pairs(of_all, of_all, 10)[0])
    assert candidates * size * 8 * 2 > 5e8
    tracemalloc.start()
    pairs, _, _ = confirmed_pairs(
        lambda: pair_blocks(of_all, of_all, 10), lambda left, right: [(vectors[left], vectors[right])], 0.9
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) == 0
    assert peak < 60e6
