"""Whether pictures whose hashes are near are one picture: what the data set and the leak certificate both go by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skinaug.manifest import Manifest


def cosines(manifest: Manifest, pairs: np.ndarray, embed: Callable[[Manifest], np.ndarray]) -> np.ndarray:
    """Cosine of the vectors of each pair of pictures: float64 [P], in [-1, 1].

    Args:
        manifest: N images; only those of a pair are embedded.
        pairs: row numbers, int [P, 2].
        embed: manifest to float [N, D].
    """
    if not len(pairs):
        return np.empty(0)
    rows, position = np.unique(pairs, return_inverse=True)
    features = np.asarray(embed(manifest.with_table(manifest.table[rows])), dtype=np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    left, right = position.reshape(pairs.shape).T
    return np.einsum("pd,pd->p", features[left], features[right])
