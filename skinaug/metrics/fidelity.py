"""How alike two sets of feature vectors are, with intervals that know about patients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from skinaug.errors import InputError
from skinaug.metrics.features import check_sets
from skinaug.metrics.frechet import frechet_distance_of
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
    check_sets(real, synthetic)
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
    check_sets(real, synthetic)
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
    check_sets(real, synthetic)
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
    CMMD, PRDC and Vendi depend on the number of images: compare values of equal numbers only (`frechet.too_few`).
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
    check_sets(real, synthetic)
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
    replicates = list(_replicates(real, synthetic, products, groups, k, num_replicates, rng))
    rows = []
    for name in METRICS:
        low, high = _interval(name, values[name], np.array([replicate[name] for replicate in replicates]))
        rows.append({"metric": name, "value": values[name], "low": low, "high": high})
    schema = {"metric": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(rows, schema)


def _replicates(
    real: np.ndarray,
    synthetic: np.ndarray,
    products: np.ndarray,
    groups: np.ndarray,
    k: int,
    count: int,
    rng: np.random.Generator,
) -> Iterator[dict[str, float]]:
    """Every measure of half of the patients, numbered in `groups`, and half of the synthetic images; none of too few."""
    patients = int(groups.max()) + 1
    if min(patients, len(synthetic)) < 2 * (k + 1):
        return
    for _ in range(count):
        kept = np.isin(groups, _draw(rng, patients, patients // 2)).nonzero()[0]
        drawn = _draw(rng, len(synthetic), len(synthetic) // 2)
        both = np.concatenate([kept, len(real) + drawn])
        yield _measure(real[kept], synthetic[drawn], products[np.ix_(both, both)], k)


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
