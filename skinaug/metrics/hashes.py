"""Perceptual hashes: pictures that look alike differ in few bits, whatever their size, format and compression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from scipy.fft import dctn

COMPARED_AT_ONCE = 8_000_000  # pairs of hashes: 64 MB


def perceptual_hashes(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of pictures and of their mirror images: uint64 [N] each.

    One bit for each of the 8 x 8 lowest frequencies of the discrete cosine transform: whether it is above their median
    (Zauner 2010, the "pHash" of the imagehash package). Mirroring negates the odd horizontal frequencies.

    Args:
        thumbnails: grey, uint8 [N, 32, 32].
    """
    frequencies = dctn(thumbnails.astype(np.float64), axes=(1, 2))[:, :8, :8]
    mirrored = frequencies * (-1.0) ** np.arange(8)
    return _above_median(frequencies), _above_median(mirrored)


def hash_table(images: pl.DataFrame, thumbnails: Sequence[np.ndarray]) -> pl.DataFrame:
    """Hashes of pictures with their image_id, in the columns `phash` and, of their mirror images, `mirrored`.

    Args:
        images: rows with image_id.
        thumbnails: of the same pictures, as in `perceptual_hashes`.
    """
    phash, mirrored = perceptual_hashes(np.stack(thumbnails))
    return images.select("image_id", phash=pl.Series(phash), mirrored=pl.Series(mirrored))


def hamming_pairs(
    hashes: np.ndarray, mirrored: np.ndarray, max_distance: int
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs within a Hamming distance, as they are or with one mirrored: int64 [P, 2] (row < other) and int64 [P]."""
    found = [np.empty((0, 3), np.int64)]
    for start, block in _blocks(len(hashes), len(hashes)):
        near = _near(hashes[block], hashes[start:], mirrored[start:], max_distance)
        found.append(near[near[:, 0] < near[:, 1]] + np.array([start, start, 0]))
    pairs = np.concatenate(found)
    return pairs[:, :2], pairs[:, 2]


def hamming_matches(
    hashes: np.ndarray, others: np.ndarray, mirrored_others: np.ndarray, max_distance: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of one set and another within a Hamming distance, as they are or with the other mirrored.

    Args:
        hashes: of the one set, uint64 [N].
        others, mirrored_others: of the other set, uint64 [M] each.
        max_distance: bits.

    Returns:
        Rows of both, int64 [P, 2], and distances, int64 [P].
    """
    found = [np.empty((0, 3), np.int64)]
    for start, block in _blocks(len(hashes), len(others)):
        found.append(_near(hashes[block], others, mirrored_others, max_distance) + np.array([start, 0, 0]))
    pairs = np.concatenate(found)
    return pairs[:, :2], pairs[:, 2]


def _blocks(count: int, others: int) -> Iterator[tuple[int, slice]]:
    """Rows that are compared with all others at once: all pairs would not fit the memory."""
    block = max(1, COMPARED_AT_ONCE // max(others, 1))
    for start in range(0, count, block):
        yield start, slice(start, start + block)


def _near(
    hashes: np.ndarray, others: np.ndarray, mirrored_others: np.ndarray, max_distance: int
) -> np.ndarray:
    """Row, other row and distance of each near pair: int64 [P, 3]."""
    straight, turned = (hashes[:, None] ^ values for values in (others, mirrored_others))
    distance = np.minimum(np.bitwise_count(straight), np.bitwise_count(turned))
    row, other = np.nonzero(distance <= max_distance)
    return np.stack([row, other, distance[row, other].astype(np.int64)], axis=1)


def _above_median(frequencies: np.ndarray) -> np.ndarray:
    flat = frequencies.reshape(len(frequencies), 64)
    bits = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)
