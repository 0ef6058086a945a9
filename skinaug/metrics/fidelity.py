"""How alike two sets of feature vectors are, with intervals that know about patients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from skinaug.errors import InputError
from skinaug.metrics.neighbours import radii, squared_distances

RANGES = {
    "fid": (0.0, np.inf),
    "kid": (-np.inf, np.inf),
    "cmmd": (0.0, np.inf),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "density": (0.0, np.inf),
    "coverage": (0.0, 1.0),
    "vendi": (1.0, np.inf),
    "vendi_real": (1.0, np.inf),
}
METRICS = tuple(RANGES)
NORMAL_95 = 1.959964
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
    _check(features)
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
            f"{path} holds no statistics: {count} images, or a mean or covariance that no set of images has. Write it anew."
        )
    return Statistics(count, mean, covariance)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """FID: squared Frechet distance of two Gaussians (Heusel et al. 2017), >= 0, 0 for equal statistics.

    |mean difference|^2 + tr A + tr B - 2 tr (A B)^(1/2). The last is the sum of the singular values of A^(1/2) B^(1/2),
    which needs no root of a product that is not symmetric, and is stable where covariances are singular.
    """
    _check_dimensions(len(a.mean), len(b.mean))
    return _frechet(a.mean, b.mean, _root(a.covariance), _root(b.covariance))


def frechet_distance_of(real: np.ndarray, synthetic: np.ndarray) -> float:
    """`frechet_distance` of two sets float [N, D] and [M, D]; where N or M is below D, without a D x D root."""
    _check(real, synthetic)
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


def kernel_distance(
    real: np.ndarray, synthetic: np.ndarray, subset_size: int = 1000, num_subsets: int = 100, seed: int = 0
) -> tuple[float, float]:
    """KID: squared MMD with the kernel (x . y / D + 1)^3, unbiased, so it may fall below 0 (Binkowski et al. 2018).

    Args:
        real, synthetic: float [N, D] and [M, D].
        subset_size: images of each set in a subset, drawn without replacement; never more than a set has.
        num_subsets: subsets that are drawn.

    Returns:
        Mean and standard deviation over the subsets. The deviation describes the subsets, not the uncertainty of the
        mean: the subsets share images.
    """
    _check(real, synthetic)
    rng = np.random.default_rng(seed)
    size = min(subset_size, len(real), len(synthetic))
    values = []
    for _ in range(num_subsets):
        some = [x[rng.permutation(len(x))[:size]] for x in (real, synthetic)]
        values.append(_kid(_products(*some), size, real.shape[1]))
    return float(np.mean(values)), float(np.std(values))


def _kid(products: np.ndarray, count: int, dimensions: int) -> float:
    """From the inner products of `count` real images, then the synthetic ones, among themselves."""
    kernel = (products / dimensions + 1) ** 3
    real, cross, synthetic = kernel[:count, :count], kernel[:count, count:], kernel[count:, count:]
    return float(_off_diagonal_mean(real) + _off_diagonal_mean(synthetic) - 2 * cross.mean())


def _off_diagonal_mean(kernel: np.ndarray) -> float:
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))


def cmmd(real: np.ndarray, synthetic: np.ndarray) -> float:
    """CMMD: 1000 times the squared MMD of unit-length features with a Gaussian kernel of sigma 10, >= 0.

    Of Jayasumana et al. 2024, and the estimator of their code, which counts each image with itself: equal sets give 0, and
    two samples of one distribution a little more, by about 1/N + 1/M. Theirs is of CLIP's features; any go in here.
    Takes memory for (N + M)^2 numbers.
    """
    _check(real, synthetic)
    return _cmmd(_cosines(_products(real, synthetic)), len(real))


def _cmmd(cosines: np.ndarray, count: int) -> float:
    kernel = np.exp((cosines - 1) / 10**2)  # a squared distance of unit vectors is 2 - 2 cosines
    return 1000 * float(
        kernel[:count, :count].mean() + kernel[count:, count:].mean() - 2 * kernel[:count, count:].mean()
    )


def prdc(real: np.ndarray, synthetic: np.ndarray, k: int = 5) -> dict[str, float]:
    """Precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Each image has a ball that reaches to its k-th nearest other image of its own set. `precision`: share of synthetic images
    inside a real ball. `recall`: share of real images inside a synthetic ball. `density`: real balls a synthetic image is in,
    over k (may exceed 1). `coverage`: share of real balls with a synthetic image inside.

    Args:
        real, synthetic: float [N, D] and [M, D], both more than k. M may be 180,000: see `neighbours.radii`.
    """
    _check(real, synthetic)
    return _prdc(squared_distances(synthetic, real), radii(real, k) ** 2, radii(synthetic, k) ** 2, k)


def _prdc(
    blocks: Iterable[tuple[slice, np.ndarray]], real_reach: np.ndarray, synthetic_reach: np.ndarray, k: int
) -> dict[str, float]:
    """From squared distances of blocks of synthetic images to all real ones, and squared radii of the balls."""
    inside_any = inside = 0
    recalled = np.zeros(len(real_reach), bool)
    covered = np.zeros(len(real_reach), bool)
    for rows, distances in blocks:
        in_real = distances <= real_reach
        inside_any += int(np.count_nonzero(in_real.any(1)))
        inside += int(np.count_nonzero(in_real))
        covered |= in_real.any(0)
        recalled |= (distances <= synthetic_reach[rows, None]).any(0)
    return {
        "precision": inside_any / len(synthetic_reach),
        "recall": float(recalled.mean()),
        "density": inside / (k * len(synthetic_reach)),
        "coverage": float(covered.mean()),
    }


def vendi_score(features: np.ndarray) -> float:
    """Vendi score with the cosine kernel: the number of unlike images a set is worth, in [1, N] (Friedman and Dieng 2023).

    Args:
        features: float [N, D], no vector zero.
    """
    if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
        raise InputError(
            f"a Vendi score needs finite features [N, D], N > 0: got an array of shape {features.shape}."
        )
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    # Both sides have the same eigenvalues besides zeros.
    kernel = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    shares = np.linalg.eigvalsh(kernel / len(unit))
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def fidelity(
    real: np.ndarray,
    synthetic: np.ndarray,
    *,
    real_groups: np.ndarray,
    k: int = 5,
    num_replicates: int = 50,
    max_images: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """All measures of a synthetic set against a real one, with 95 % intervals.

    Intervals are of the delete-half jackknife (Shao and Wu 1989): each replicate measures half of the patients and half of the
    synthetic images, drawn without replacement, and the replicates' standard deviation is the standard error of the whole
    sets' value. Never a bootstrap: it draws images twice, and an image that is there twice has a nearest neighbour at
    distance 0, so that balls collapse and FID grows. Replicates spread about their own mean, not about the value, because FID,
    CMMD, PRDC and Vendi depend on the number of images: compare values of equal numbers only (`too_few`).
    Simulated on normal vectors, the standard error is 0.9 to 1.75 times the spread over fresh patients and images: too wide
    where a measure is near its least or greatest value, at which its spread falls faster than with the root of the number.

    Args:
        real, synthetic: float [N, D] and [M, D], both more than k.
        real_groups: the patient of each real image, [N].
        k: of `prdc`.
        num_replicates: replicates, at least 2.
        max_images: larger sets are first cut down to so many images, drawn at random.
        seed: of all draws.

    Returns:
        Columns metric (fid, kid, cmmd, precision, recall, density, coverage, vendi of the synthetic and vendi_real of the
        real set), value, low, high. KID is of all pairs of images: the mean over subsets that `kernel_distance` takes has
        the same expectation and more noise. Intervals are cut to the measure's range, and null below 2 (k + 1) patients or
        synthetic images, half of which have no k neighbours.

    Raises:
        InputError: features that do not go together, or no more than k images.
    """
    _check(real, synthetic)
    if len(real_groups) != len(real) or num_replicates < 2:
        raise InputError(
            f"{len(real_groups)} patients of {len(real)} real images and {num_replicates} replicates: each image needs one "
            "patient, and there must be at least 2 replicates."
        )
    if not 1 <= k < min(len(real), len(synthetic)):
        raise InputError(
            f"k={k} nearest neighbours were asked for in sets of {len(real)} and {len(synthetic)} images: lower it."
        )
    rng = np.random.default_rng(seed)
    some = _draw(rng, len(real), max_images)
    real, groups = real[some], np.unique(real_groups[some], return_inverse=True)[1]
    synthetic = synthetic[_draw(rng, len(synthetic), max_images)]
    products = _products(real, synthetic)
    values = _measure(real, synthetic, products, k)
    patients = int(groups.max()) + 1
    replicates = []
    if min(patients, len(synthetic)) >= 2 * (k + 1):
        for _ in range(num_replicates):
            kept = np.isin(groups, _draw(rng, patients, patients // 2)).nonzero()[0]
            drawn = _draw(rng, len(synthetic), len(synthetic) // 2)
            both = np.concatenate([kept, len(real) + drawn])
            replicates.append(_measure(real[kept], synthetic[drawn], products[np.ix_(both, both)], k))
    rows = []
    for name in METRICS:
        low, high = _interval(name, values[name], np.array([replicate[name] for replicate in replicates]))
        rows.append({"metric": name, "value": values[name], "low": low, "high": high})
    schema = {"metric": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(rows, schema)


def _interval(name: str, value: float, replicates: np.ndarray) -> tuple[float | None, float | None]:
    """Of a value, from its replicates' spread: (low, high), or nothing where there are none."""
    if not len(replicates):
        return None, None
    if name.startswith("vendi"):
        # It grows with the number of images, where D is large in proportion, and so does its error.
        factor = np.exp(NORMAL_95 * np.std(np.log(replicates), ddof=1))
        low, high = value / factor, value * factor
    else:
        error = NORMAL_95 * np.std(replicates, ddof=1)
        low, high = value - error, value + error
    lowest, highest = RANGES[name]
    return float(max(low, lowest)), float(min(high, highest))


def _measure(real: np.ndarray, synthetic: np.ndarray, products: np.ndarray, k: int) -> dict[str, float]:
    """Every measure of one pair of sets; products: float64 [N + M, N + M], as `_products` makes them of both."""
    count = len(real)
    squares = products.diagonal()
    apart = np.maximum(squares[:, None] + squares - 2 * products, 0)
    np.fill_diagonal(apart, np.inf)
    real_reach, synthetic_reach = (
        np.partition(part, k - 1)[:, k - 1] for part in (apart[:count, :count], apart[count:, count:])
    )
    return {
        "fid": frechet_distance_of(real, synthetic),
        "kid": _kid(products, count, real.shape[1]),
        "cmmd": _cmmd(_cosines(products), count),
        **_prdc([(slice(None), apart[count:, :count])], real_reach, synthetic_reach, k),
        "vendi": vendi_score(synthetic),
        "vendi_real": vendi_score(real),
    }


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


def _draw(rng: np.random.Generator, count: int, most: int) -> np.ndarray:
    """At most so many of `count` rows, without replacement, in order."""
    return np.sort(rng.permutation(count)[:most])


def _products(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Inner products of all images, real ones first, float64 [N + M, N + M]."""
    both = np.concatenate([real, synthetic]).astype(np.float64)
    return both @ both.T


def _cosines(products: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(products.diagonal())
    return products / lengths / lengths[:, None]


def _check(*sets: np.ndarray) -> None:
    """Raise InputError unless each is finite [N, D] with N >= 2, of one D."""
    for features in sets:
        if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
            raise InputError(
                f"features [N, D] of at least two images, all finite, are needed: got an array of shape {features.shape}. "
                "Give more images, or features of a network that works."
            )
    _check_dimensions(*(features.shape[1] for features in sets))


def _check_dimensions(*dimensions: int) -> None:
    if len(set(dimensions)) > 1:
        raise InputError(
            f"features of {' and '.join(map(str, dimensions))} dimensions were compared: take both of one network."
        )
