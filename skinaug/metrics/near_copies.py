"""Pairs of pictures whose perceptual hashes are near and whose features confirm it, looked for in bounded memory.

Dermoscopic pictures look alike to a hash: a round lesion in the middle and black corners. Of 10,000 such pictures, pairs that only the
hashes join are over a million, and their features together would take gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np

from skinaug.manifest import Manifest

COMPARED_AT_ONCE = 4_096  # features that are held against one

Block = tuple[
    np.ndarray, np.ndarray
]  # rows of two sets, int64 [P, 2], and distances of their hashes, int64 [P]
Views = list[
    tuple[np.ndarray, np.ndarray]
]  # features of each set's candidates, float [L, D] and [R, D], seen in one or more ways


def confirmed_pairs(
    blocks: Callable[[], Iterable[Block]],
    features: Callable[[np.ndarray, np.ndarray], Views],
    min_cosine: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those pairs whose features have a cosine of at least `min_cosine`: rows int64 [P, 2], distances int64 [P], cosines float64 [P].

    The blocks are gone through twice: first for the candidates, whose features are computed once each, then for the pairs. So only
    pairs that are confirmed are held.

    Args:
        blocks: pairs by `metrics.hashes`, the same at each call.
        features: of rows of the one set and of the other, each sorted and without repetition; a pair's cosine is the largest
            over the views.
        min_cosine: in [-1, 1].
    """
    left, right = (np.unique(rows) for rows in _candidates(blocks()))
    found = [(np.empty((0, 2), np.int64), np.empty(0, np.int64), np.empty(0))]
    if len(left):
        views = features(left, right)
        for pairs, distances in blocks():
            places = np.searchsorted(left, pairs[:, 0]), np.searchsorted(right, pairs[:, 1])
            cosine = np.max([paired_cosines(*view, *places) for view in views], axis=0)
            kept = cosine >= min_cosine
            found.append((pairs[kept], distances[kept], cosine[kept]))
    pairs, distances, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return pairs, distances, cosine


def embedded(
    manifest: Manifest, embed: Callable[[Manifest], np.ndarray], left: np.ndarray, right: np.ndarray
) -> Views:
    """Features of some rows of a manifest and of some others, each image embedded once.

    Args:
        manifest: N images.
        embed: manifest to float [N, D].
        left, right: row numbers, int [L] and [R].
    """
    rows = np.union1d(left, right)
    features = embed(manifest.with_table(manifest.table[rows]))
    return [(features[np.searchsorted(rows, left)], features[np.searchsorted(rows, right)])]


def paired_cosines(one: np.ndarray, other: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine of features `one[rows[p]]` and `other[others[p]]` of each pair p, computed in float64: [P].

    Args:
        one, other: features, float [L, D] and [R, D].
        rows: in ascending order, int [P]; others: int [P].
    """
    found = np.empty(len(rows))
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    for start, end in pairwise([*starts, len(rows)]):
        vector = _unit(one[rows[start]].astype(np.float64))
        for at in range(start, end, COMPARED_AT_ONCE):
            part = slice(at, min(at + COMPARED_AT_ONCE, end))
            found[part] = _unit(other[others[part]].astype(np.float64)) @ vector
    return found


def _candidates(blocks: Iterable[Block]) -> Iterator[np.ndarray]:
    """Rows that occur in a pair: of the one set, then of the other."""
    rows = [(np.unique(pairs[:, 0]), np.unique(pairs[:, 1])) for pairs, _ in blocks]
    for side in (0, 1):
        yield np.concatenate([np.empty(0, np.int64), *(pair[side] for pair in rows)])


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; those of length 0 stay, and are like nothing."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(np.float64).tiny)
