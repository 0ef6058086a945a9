"""Whether an image is like others: how near it lies to its nearest ones, held against how near images of the same source do."""

from __future__ import annotations

import numpy as np

from skinaug.metrics.neighbours import nearest

NEIGHBOURS = 5


def typicality(features: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Mean cosine similarity to the NEIGHBOURS nearest references (all of fewer): float [N, D] and [M, D] to float32 [N]."""
    return nearest(features, references, min(NEIGHBOURS, len(references)))[0].mean(1)


def typicality_p(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The chance of being no more typical than an image is, for images of the same source as those of `expected`: float [N].

    Conformal p-values: of new images of that source a share of at most `rate` has one of at most `rate`, whatever the features
    are like. The smallest is 1 / (M + 1). Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World, 2.2.

    Args:
        found: typicality of N images.
        expected: of M images of the source, which are not among the references.
    """
    below = np.searchsorted(np.sort(expected), found, side="right")
    return (1 + below) / (len(expected) + 1)
