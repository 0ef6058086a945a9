"""Nearest neighbours among feature vectors, on all cores and in bounded memory.

All searches are products of blocks of vectors, by PyTorch. On the cores this was measured on, faiss's exact index needs the
same time in float32, scikit-learn twice as long, and neither multiplies in bfloat16, which the neighbours of 180,000 vectors
among themselves are found in where a processor has units for it; faiss's inverted lists would be approximate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from skinaug.errors import InputError
from skinaug.progress import shown

BLOCK = 2048  # vectors a side of a product: its float32 result, 17 MB, stays in a processor's cache
EXACT = 20_000  # up to so many vectors are multiplied in float32: seconds
# What processors that multiply bfloat16 themselves call it, x86 and Arm. On others PyTorch takes ten to hundreds of times as long as for float32.
BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16", "bf16")
SPARE = 12  # neighbours beyond k that the bfloat16 search proposes
NEIGHBOURS = "looking for neighbours"  # before the bar
AT_ONCE = 256  # vectors whose proposed neighbours are copied at a time, to measure them exactly


def nearest(queries: np.ndarray, references: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Each query's k most similar references by cosine.

    Args:
        queries: float [M, D].
        references: float [N, D], N >= k.

    Returns:
        Cosine similarities in [-1, 1], float32 [M, k], most similar first, and the references' rows, int64 [M, k].
    """
    if not 1 <= k <= len(references):
        raise InputError(f"{k} nearest neighbours were asked for among {len(references)} images: lower it.")
    unit = _unit(references)
    similarities = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    for block in shown(_blocks(len(queries), BLOCK), NEIGHBOURS):
        similarities[block], rows[block] = (_unit(queries[block]) @ unit.T).topk(k)
    return similarities.clip(-1, 1), rows


def nearest_of_other_groups(vectors: np.ndarray, groups: np.ndarray, k: int) -> np.ndarray:
    """Cosine similarities to each vector's k nearest that belong to another group (patient): float32 [N, k].

    Raises:
        InputError: a vector has fewer than k vectors outside its group.
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    others = len(vectors) - int(sizes.max())
    if not 1 <= k <= others:
        raise InputError(
            f"{k} nearest neighbours were asked for among {others} images of other patients: lower it."
        )
    unit, member = _unit(vectors), torch.from_numpy(group)
    similarities = np.empty((len(vectors), k), np.float32)
    for block in shown(_blocks(len(vectors), BLOCK), NEIGHBOURS):
        product = unit[block] @ unit.T
        product.masked_fill_(member[block, None] == member, -torch.inf)
        similarities[block] = product.topk(k).values
    return similarities.clip(-1, 1)


def squared_distances(queries: np.ndarray, references: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared Euclidean distances of all queries [M, D] to all references [N, D]: blocks of queries, float32 [block, N]."""
    centre = _centre(references)
    fixed = _centred(references, centre)
    fixed_squares = fixed.square().sum(1)
    for block in shown(_blocks(len(queries), BLOCK), NEIGHBOURS):
        moving = _centred(queries[block], centre)
        squares = torch.add(fixed_squares, moving @ fixed.T, alpha=-2).add_(
            moving.square().sum(1, keepdim=True)
        )
        yield block, squares.clamp_(min=0).numpy()


def radii(vectors: np.ndarray, k: int) -> np.ndarray:
    """Euclidean distance of each vector to its k-th nearest other one: float32 [N].

    Distances are exact. Where `search_dtype` is bfloat16, the search proposes the k + `SPARE` nearest, which are then measured:
    where its rounding hides a neighbour, the radius is a little too large, never too small. Measured against float32: of
    16,384 normal vectors in 1,280 dimensions, 0.02 % of the radii, by at most 0.03 %; in clusters a tenth as wide as their
    distance, 3 % of the radii, by at most 1.2 %.

    Raises:
        InputError: there are not k other vectors.
    """
    count = len(vectors)
    if not 1 <= k < count:
        raise InputError(f"{k} nearest neighbours were asked for among {count - 1} other images: lower it.")
    centre = _centre(vectors)  # about their mean vectors are shortest, and rounding is relative to length
    dtype = search_dtype(count)
    points = torch.empty(count, vectors.shape[1] + 6, dtype=dtype)
    for block in _blocks(count, BLOCK):
        points[block] = _as_left(_centred(vectors[block], centre), dtype)
    proposed = _propose(points, min(k + SPARE, count - 1)).numpy()
    found = np.empty(count, np.float32)
    for block in shown(_blocks(count, AT_ONCE), NEIGHBOURS):
        apart = torch.from_numpy(np.asarray(vectors[proposed[block]] - vectors[block, None], np.float32))
        found[block] = torch.linalg.vector_norm(apart, dim=2).kthvalue(k).values
    return found


def search_dtype(count: int) -> torch.dtype:
    """What the neighbours of so many vectors are looked for in: bfloat16 above `EXACT` of them, on processors made for it."""
    able = torch.cpu.get_capabilities()
    fast = any(able.get(unit, False) for unit in BFLOAT16_UNITS)
    return torch.bfloat16 if count > EXACT and fast else torch.float32


def _as_left(vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """Vectors [x, s, 1] for which [x, s, 1] @ [y, 1, t] is -|x - y|^2 / 2, which `_as_right` makes of others: no pass over
    the products is needed to add the squares, and they are rounded relative to the distance. s is -|x|^2 / 2 as a sum of
    three numbers, as precise together as float32."""
    rest = vectors.square().sum(1, keepdim=True) / -2
    parts = []
    for _ in range(3):
        parts.append(rest.to(dtype))
        rest = rest - parts[-1]
    return torch.cat([vectors.to(dtype), *parts, torch.ones(len(vectors), 3, dtype=dtype)], 1)


def _as_right(points: Tensor) -> Tensor:
    return torch.cat([points[:, :-6], points[:, -3:], points[:, -6:-3]], 1).T


def _propose(points: Tensor, k: int) -> Tensor:
    """Rows of each point's k nearest others, int64 [N, k]; each pair of blocks is multiplied once and serves both."""
    best = torch.full((len(points), k), -torch.inf, dtype=points.dtype)
    rows = torch.zeros(len(points), k, dtype=torch.int64)

    def offer(to: slice, of: slice, closeness: Tensor) -> None:
        found = (closeness.amax(1) > best[to, -1]).nonzero()[:, 0]  # fewer and fewer, and sorting is slow
        nearest = closeness[found].topk(min(k, closeness.shape[1]))
        at = found + to.start
        values = torch.cat([best[at], nearest.values], 1)
        names = torch.cat([rows[at], nearest.indices + of.start], 1)
        best[at], kept = values.topk(k)
        rows[at] = names.gather(1, kept)

    blocks = _blocks(len(points), BLOCK)
    for number, right in enumerate(shown(blocks, NEIGHBOURS)):
        columns = _as_right(points[right])
        for left in blocks[: number + 1]:
            closeness = points[left] @ columns
            if left == right:
                closeness.fill_diagonal_(-torch.inf)
            else:
                offer(right, left, closeness.T.contiguous())
            offer(left, right, closeness)
    return rows


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _unit(vectors: np.ndarray) -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.asarray(vectors, np.float32)))


def _centre(vectors: np.ndarray) -> np.ndarray:
    return vectors.mean(0, dtype=np.float64).astype(np.float32)


def _centred(vectors: np.ndarray, centre: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(vectors, np.float32) - centre)
