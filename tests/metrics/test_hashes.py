"""Perceptual hashes against imagehash, pairs against a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from skinaug.metrics.hashes import hamming_pairs, match_blocks, pair_blocks, perceptual_hashes


def picture(seed: int) -> Image.Image:
    """Smooth random blobs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


def thumbnail(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS))


def bits(hashes: np.ndarray) -> np.ndarray:
    return np.unpackbits(hashes.view(np.uint8)).reshape(len(hashes), 8, 8).astype(bool)


def test_hash_is_that_of_imagehash():
    imagehash = pytest.importorskip("imagehash")
    images = [picture(seed) for seed in range(20)]
    hashes, mirrored = perceptual_hashes(np.stack([thumbnail(image) for image in images]))
    for image, ours in zip(images, bits(hashes), strict=True):
        assert np.array_equal(ours, imagehash.phash(image).hash)
    theirs = [imagehash.phash(ImageOps.mirror(image)).hash for image in images]
    assert np.mean(bits(mirrored) != np.stack(theirs)) < 0.01  # resizing then mirroring rounds differently


@given(st.lists(st.integers(0, 2**64 - 1), min_size=0, max_size=12), st.integers(0, 64))
def test_hamming_pairs_are_those_of_a_loop(values, most):
    hashes = np.array(values, np.uint64)
    mirrored = hashes ^ np.uint64(0xFF)
    pairs, distances = hamming_pairs(hashes, mirrored, most)
    expected = {}
    for i, one in enumerate(values):
        for j in range(i + 1, len(values)):
            distance = min((one ^ values[j]).bit_count(), (one ^ values[j] ^ 0xFF).bit_count())
            if distance <= most:
                expected[i, j] = distance
    assert {tuple(pair): d for pair, d in zip(pairs.tolist(), distances.tolist(), strict=True)} == expected


def test_hamming_pairs_blockwise(monkeypatch):
    hashes = np.random.default_rng(0).integers(0, 2**63, 50).astype(np.uint64)
    whole = hamming_pairs(hashes, hashes, 28)
    monkeypatch.setattr("skinaug.metrics.hashes.COMPARED_AT_ONCE", 130)
    parts = hamming_pairs(hashes, hashes, 28)
    assert len(list(pair_blocks(hashes, hashes, 28))) == 25
    assert len(whole[0]) > 10
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=8),
    st.lists(st.integers(0, 2**64 - 1), max_size=8),
    st.integers(0, 64),
)
def test_matches_of_two_sets_are_those_of_a_loop(values, others, most):
    right = np.array(others, np.uint64)
    found = {
        tuple(pair): distance
        for block in match_blocks(np.array(values, np.uint64), right, right ^ np.uint64(0xFF), most)
        for pair, distance in zip(*(part.tolist() for part in block), strict=True)
    }
    expected = {
        (i, j): min((one ^ other).bit_count(), (one ^ other ^ 0xFF).bit_count())
        for i, one in enumerate(values)
        for j, other in enumerate(others)
    }
    expected = {pair: distance for pair, distance in expected.items() if distance <= most}
    assert found == expected
