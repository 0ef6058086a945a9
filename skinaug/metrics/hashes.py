"""Perceptual hashes: pictures that look alike differ in few bits, whatever their size, format and compression."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl
from scipy.fft import dctn

from skinaug.progress import shown

COMPARED_AT_ONCE = 1_000_000  # pairs of hashes: 8 MB, and up to 50 MB where all are near


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
    return gathered(pair_blocks(hashes, mirrored, max_distance))


def gathered(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """All pairs and distances of some blocks: int64 [P, 2] and int64 [P]."""
    empty = (np.empty((0, 2), np.int64), np.empty(0, np.int64))
    pairs, distances = zip(empty, *blocks, strict=True)
    return np.concatenate(pairs), np.concatenate(distances)


def pair_blocks(
    hashes: np.ndarray, mirrored: np.ndarray, max_distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What `hamming_pairs` finds, of some rows at a time, in ascending order: all pairs may be more than memory holds."""
    for start, block in _blocks(len(hashes), len(hashes)):
        near = _near(hashes[block], hashes[start:], mirrored[start:], max_distance)
        near = near[near[:, 0] < near[:, 1]]
        yield near[:, :2] + start, near[:, 2]


def match_blocks(
    hashes: np.ndarray, others: np.ndarray, mirrored_others: np.ndarray, max_distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of one set and another within a Hamming distance, as they are or with the other mirrored, as `pair_blocks` gives them.

    Args:
        hashes: of the one set, uint64 [N].
        others, mirrored_others: of the other set, uint64 [M] each.
        max_distance: bits.
    """
    for start, block in _blocks(len(hashes), len(others)):
        near = _near(hashes[block], others, mirrored_others, max_distance)
        yield near[:, :2] + np.array([start, 0]), near[:, 2]


def _blocks(count: int, others: int) -> Iterator[tuple[int, slice]]:
    """Rows that are compared with all others at once: all pairs would not fit the memory."""
    block = max(1, COMPARED_AT_ONCE // max(others, 1))
    for start in shown(range(0, count, block), "comparing hashes"):
        yield start, slice(start, start + block)


def _near(
    hashes: np.ndarray, others: np.ndarray, mirrored_others: np.ndarray, max_distance: int
) -> np.ndarray:
    """Row, other row and distance of each near pair: int64 [P, 3]."""
    distance = np.bitwise_count(hashes[:, None] ^ others)
    distance = np.minimum(distance, np.bitwise_count(hashes[:, None] ^ mirrored_others))
    row, other = np.nonzero(distance <= max_distance)
    return np.stack([row, other, distance[row, other].astype(np.int64)], axis=1)


def _above_median(frequencies: np.ndarray) -> np.ndarray:
    flat = frequencies.reshape(len(frequencies), 64)
    bits = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)
