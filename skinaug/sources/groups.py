"""Groups of images: who is one patient, and which groups are one after all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def merge_groups(groups: Sequence[str], pairs: np.ndarray) -> list[str]:
    """Groups joined wherever a pair of rows links them; a joined group has the first of its names in sorted order.

    Args:
        groups: a name a row.
        pairs: row numbers, int [P, 2].
    """
    from scipy.sparse import coo_array  # half a second, which looking at a folder can spare
    from scipy.sparse.csgraph import connected_components

    names, index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    links = index[pairs]
    graph = coo_array((np.ones(len(pairs)), (links[:, 0], links[:, 1])), shape=(len(names), len(names)))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)  # names are sorted, so the first is the smallest
    return names[first[component]][index].tolist()
