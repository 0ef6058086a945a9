"""FID: what it knows of a set of feature vectors, kept on disk, and how far apart two sets are by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from skinaug.errors import InputError, plural
from skinaug.metrics.features import check_dimensions, check_sets

ENOUGH_FOR_FID = 10_000
AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Statistics:
    """What FID knows of a set: the number of images, their mean [D] and unbiased covariance [D, D], float64."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray


def statistics(features: np.ndarray) -> Statistics:
    """Statistics of features float [N, D], N >= 2."""
    check_sets(features)
    mean = features.mean(0, dtype=np.float64)
    scatter = np.zeros((len(mean), len(mean)))
    for start in range(0, len(features), AT_ONCE):  # a float64 copy of 180,000 vectors would take 1.8 GB
        part = features[start : start + AT_ONCE] - mean
        scatter += part.T @ part
    return Statistics(len(features), mean, scatter / (len(features) - 1))


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Keep statistics as safetensors, so that a set need not be embedded again."""
    count = np.array([statistics.count], np.int64)
    save_file({"count": count, "mean": statistics.mean, "covariance": statistics.covariance}, path)


def read_statistics(path: Path) -> Statistics:
    """What `write_statistics` wrote.

    Raises:
        InputError: the file is missing, is something else, or its parts contradict each other.
    """
    try:
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as statistics ({error}): write it anew.") from error
    shapes = {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}
    dimensions = tensors["mean"].size if "mean" in tensors else 0
    expected = {
        "count": ("int64", (1,)),
        "mean": ("float64", (dimensions,)),
        "covariance": ("float64", (dimensions, dimensions)),
    }
    if shapes != expected:
        raise InputError(
            f"{path} holds no statistics: it has {shapes}, and count int64 [1], mean float64 [D] and covariance float64 "
            "[D, D] are needed. Write it anew."
        )
    count, mean, covariance = int(tensors["count"][0]), tensors["mean"], tensors["covariance"]
    sound = np.isfinite(mean).all() and np.isfinite(covariance).all() and (covariance.diagonal() >= 0).all()
    if count < 2 or not sound or not np.allclose(covariance, covariance.T):
        raise InputError(
            f"{path} holds no statistics: {plural(count, 'image')}, or a mean or covariance that no set of images has. Write it anew."
        )
    return Statistics(count, mean, covariance)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """FID: squared Frechet distance of two Gaussians (Heusel et al. 2017), >= 0, 0 for equal statistics.

    |mean difference|^2 + tr A + tr B - 2 tr (A B)^(1/2). The last is the sum of the singular values of A^(1/2) B^(1/2),
    which needs no root of a product that is not symmetric, and is stable where covariances are singular.
    """
    check_dimensions(len(a.mean), len(b.mean))
    return _frechet(a.mean, b.mean, _root(a.covariance), _root(b.covariance))


def frechet_distance_of(real: np.ndarray, synthetic: np.ndarray) -> float:
    """`frechet_distance` of two sets float [N, D] and [M, D]; where N or M is below D, without a D x D root."""
    check_sets(real, synthetic)
    return _frechet(
        real.mean(0, dtype=np.float64), synthetic.mean(0, dtype=np.float64), _factor(real), _factor(synthetic)
    )


def _frechet(mean_a: np.ndarray, mean_b: np.ndarray, factor_a: np.ndarray, factor_b: np.ndarray) -> float:
    """From matrices F with F' F = covariance."""
    product = np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum()
    spread = np.square(factor_a).sum() + np.square(factor_b).sum()
    return max(float(np.square(mean_a - mean_b).sum() + spread - 2 * product), 0.0)


def _factor(features: np.ndarray) -> np.ndarray:
    """F [min(N, D), D], float64, with F' F = covariance of features."""
    if len(features) > features.shape[1]:
        return _root(statistics(features).covariance)
    features = features.astype(np.float64)
    return (features - features.mean(0)) / np.sqrt(len(features) - 1)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root."""
    values, vectors = np.linalg.eigh(covariance)
    noise = values[-1] * len(values) * np.finfo(float).eps  # of which a root would make a signal
    values[values < noise] = 0
    return (vectors * np.sqrt(values)) @ vectors.T


def too_few(count: int, dimensions: int) -> str | None:
    """What a reader must be told of FID on so many images of the smaller set, or None.

    Up to D images, the covariance has no full rank (Heusel et al. 2017 ask for more images than dimensions, and for 10,000);
    below 10,000 FID is still too high by about 1 / count (Chong and Forsyth 2020; KID is unbiased: Binkowski et al. 2018).
    """
    if count <= dimensions:
        return (
            f"FID of {count} images in {dimensions} dimensions rests on a covariance of rank {max(count - 1, 0)}: "
            "its value is mostly bias. Compare it only between sets of equal size, and read KID first."
        )
    if count < ENOUGH_FOR_FID:
        return (
            f"FID of {count} images (fewer than {ENOUGH_FOR_FID}) is biased upwards: compare it only between sets of "
            "equal size, and read KID first."
        )
    return None
