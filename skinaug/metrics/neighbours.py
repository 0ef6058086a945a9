"""Nearest neighbours among feature vectors."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from skinaug.errors import InputError


def nearest(queries: np.ndarray, references: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Each query's k most similar references by cosine.

    Args:
        queries: float [M, D].
        references: float [N, D], N >= k.

    Returns:
        Cosine similarities in [-1, 1], float [M, k], most similar first, and the references' rows, int [M, k].
    """
    if not 1 <= k <= len(references):
        raise InputError(f"{k} nearest neighbours were asked for among {len(references)} images: lower it.")
    # On unit vectors the Euclidean order is the cosine order, and scikit-learn's Euclidean search is its fast one.
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(normalize(references))
    distances, rows = index.kneighbors(normalize(queries))
    return 1 - distances**2 / 2, rows


def nearest_of_other_groups(vectors: np.ndarray, groups: np.ndarray, k: int) -> np.ndarray:
    """Cosine similarities to each vector's k nearest that belong to another group (patient): float [N, k].

    Raises:
        InputError: a vector has fewer than k vectors outside its group.
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    largest = int(sizes.max())
    if k > len(vectors) - largest:
        raise InputError(
            f"{k} nearest neighbours were asked for among {len(vectors) - largest} images of other patients: lower it."
        )
    similarities, rows = nearest(vectors, vectors, k + largest)
    other = group[rows] != group[:, None]
    first = np.argsort(~other, axis=1, kind="stable")[
        :, :k
    ]  # those of other groups, still most similar first
    return np.take_along_axis(similarities, first, axis=1)
