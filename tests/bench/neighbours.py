"""Nearest real images, memorisation and PRDC of a large synthetic set: ours, and the plain way where it can."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import torch

from skinaug.metrics.fidelity import prdc
from skinaug.metrics.neighbours import EXACT, nearest, nearest_of_other_groups
from tests.bench import measure

DIMENSIONS, K = 1280, 5
FULL, SMALL = (180_000, 3_500), (12_000, 1_500)  # synthetic, real; the plain way needs all distances at once


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


def floor_seconds(count: int, real: int) -> float:
    """Time of the products alone at the rate of a large one: of synthetic pairs once, of the others twice."""
    narrow = 2 * DIMENSIONS * count * count / 2
    wide = 2 * DIMENSIONS * (2 * count * real + 2 * real * real)
    dtype = torch.bfloat16 if count > EXACT else torch.float32
    return narrow / measure.matmul_flops(dtype) + wide / measure.matmul_flops(torch.float32)


def main(way: str, count: int, num_real: int) -> None:
    """Report seconds, the floor and what was found, of normal vectors, whose neighbours are hard to tell."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # these searches are for processors, and so is the floor
    floor = floor_seconds(count, num_real)
    rng = np.random.default_rng(0)
    synthetic, real = (rng.standard_normal((n, DIMENSIONS), dtype=np.float32) for n in (count, num_real))
    start, start_cpu = time.perf_counter(), time.process_time()
    *similar, scores = {"ours": ours, "plain": plain}[way](synthetic, real, np.arange(num_real) // 2)
    measure.report(
        seconds=time.perf_counter() - start,
        cpu_seconds=time.process_time() - start_cpu,
        floor=floor,
        found=[*(float(x.mean()) for x in similar), *map(float, scores)],
    )


def rows() -> list[tuple[str, str]]:
    """The full size, and both ways on what the plain one can do."""
    full = measure.run("neighbours", "ours", *FULL)
    us, them = (measure.run("neighbours", way, *SMALL) for way in ("ours", "plain"))
    agree = np.allclose(us["found"], them["found"], rtol=1e-3)
    return [
        (
            f"neighbours, memorisation, PRDC of {FULL[0]:,} x {FULL[1]:,} x {DIMENSIONS:,}",
            f"{full['seconds']:.0f} s, {full['cpu_seconds']:.0f} s of processor, {full['peak_gb']:.1f} GB, "
            f"{full['floor'] / full['seconds']:.0%} of floor",
        ),
        (
            f"the same of {SMALL[0]:,} x {SMALL[1]:,}",
            f"{us['seconds']:.1f} s, {us['peak_gb']:.1f} GB; plain {them['seconds']:.1f} s, {them['peak_gb']:.1f} GB: "
            f"{them['seconds'] / us['seconds']:.1f}x" + ("" if agree else ": DISAGREE"),
        ),
    ]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
