"""Nearest real images, memorisation and PRDC of a large synthetic set: ours, and the plain way where it can."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import torch

from skinaug.metrics.fidelity import prdc
from skinaug.metrics.neighbours import nearest, nearest_of_other_groups, search_dtype
from tests.bench import measure
from tests.bench.process import Run, run

K = 5


def ours(synthetic: np.ndarray, real: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, ...]:
    own = prdc(real, synthetic, K)
    similar = nearest(synthetic, real, 1)[0], nearest_of_other_groups(real, patients, 1)
    return *similar, np.array([own[name] for name in ("precision", "recall", "density", "coverage")])


def plain(synthetic: np.ndarray, real: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, ...]:
    """scikit-learn's brute search and the prdc package, as one would call them."""
    from prdc import compute_prdc
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(metric="cosine", algorithm="brute", n_jobs=-1).fit(real)
    to_real = 1 - search.kneighbors(synthetic, 1)[0]
    distances, rows = search.kneighbors(real, 1 + np.bincount(patients).max())
    other = patients[rows] != patients[:, None]
    to_others = 1 - np.take_along_axis(distances, other.argmax(1)[:, None], 1)
    theirs = compute_prdc(real, synthetic, K)
    return (
        to_real,
        to_others,
        np.array([theirs[name] for name in ("precision", "recall", "density", "coverage")]),
    )


def floor_seconds(count: int, real: int, dimensions: int, **matmul: Any) -> float:
    """Time of the products alone at the rate of a large one: of synthetic pairs once, of the others twice."""
    narrow = 2 * dimensions * count * count / 2
    wide = 2 * dimensions * (2 * count * real + 2 * real * real)
    rates = [measure.matmul_flops(kind, **matmul) for kind in (search_dtype(count), torch.float32)]
    return narrow / rates[0] + wide / rates[1]


def search(way: str, synthetic: int, real: int, dimensions: int, **matmul: Any) -> dict[str, Any]:
    """Seconds, the floor and what was found, of normal vectors, whose neighbours are hard to tell.

    Args:
        way: ours or plain.
        synthetic, real: how many vectors.
        matmul: keywords of `measure.matmul_flops`, for the floor.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # these searches are for processors, and so is the floor
    floor = floor_seconds(synthetic, real, dimensions, **matmul)
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal((count, dimensions), dtype=np.float32) for count in (synthetic, real)]
    start, start_cpu = time.perf_counter(), time.process_time()
    *similar, scores = {"ours": ours, "plain": plain}[way](*vectors, np.arange(real) // 2)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - start_cpu,
        "floor": floor,
        "found": [*(float(x.mean()) for x in similar), *map(float, scores)],
    }


def rows(
    run: Run = run,
    full: tuple[int, int] = (180_000, 3_500),
    small: tuple[int, int] = (12_000, 1_500),
    dimensions: int = 1280,
    **matmul: Any,
) -> list[tuple[str, str]]:
    """The full size, and both ways on what the plain one can do.

    full, small: how many synthetic and real vectors; the plain way needs all distances at once. matmul: as in `search`.
    """
    size = {"dimensions": dimensions, **matmul}
    most = run("neighbours", "search", way="ours", synthetic=full[0], real=full[1], **size)
    us, them = (
        run("neighbours", "search", way=way, synthetic=small[0], real=small[1], **size)
        for way in ("ours", "plain")
    )
    agree = np.allclose(us["found"], them["found"], rtol=1e-3)
    return [
        (
            f"neighbours, memorisation, PRDC of {full[0]:,} x {full[1]:,} x {dimensions:,}",
            f"{most['seconds']:.0f} s, {most['cpu_seconds']:.0f} s of processor, {most['peak_gb']:.1f} GB, "
            f"{most['floor'] / most['seconds']:.0%} of floor",
        ),
        (
            f"the same of {small[0]:,} x {small[1]:,}",
            f"{us['seconds']:.1f} s, {us['peak_gb']:.1f} GB; plain {them['seconds']:.1f} s, {them['peak_gb']:.1f} GB: "
            f"{them['seconds'] / us['seconds']:.1f}x" + ("" if agree else ": DISAGREE"),
        ),
    ]
