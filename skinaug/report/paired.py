"""Many scores of each arm at once, with intervals and with differences to the baseline that are adjusted as families."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from skinaug.report import statistics
from skinaug.report.collect import Predictions, Study
from skinaug.report.measure import Draws, known_variance, share_interval, verdict
from skinaug.report.statistics import Sums, Variance
from skinaug.report.subgroups import no_less_than_usual


class Found(NamedTuple):
    """An arm's K scores: seeds, [S, K] on the test set and [B, S, K] on the drawn ones; NaN where undefined.

    Attributes:
        patients: int [K], of those scores that are shares; else 0.
        sizes: [K], images that a score rests on, where chance in training is to be no less than usual for as many; else None.
    """

    seeds: list[int]
    on_test: np.ndarray
    on_drawn: np.ndarray
    patients: np.ndarray | None = None
    sizes: np.ndarray | None = None


class Pair(NamedTuple):
    """An arm's difference to the baseline: [K] means and where their chance comes from."""

    arm: str
    mean: np.ndarray
    variance: Variance


OWN = ("family", "least", "most", "comparisons")  # columns of keys that `compared` takes for itself
COLUMNS = {
    "seeds": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "baseline": pl.String,
    "difference": pl.Float64,
    "difference_low_adjusted": pl.Float64,
    "difference_high_adjusted": pl.Float64,
    "difference_p_holm": pl.Float64,
    "verdict": pl.String,
}


def found(
    study: Study,
    draws: Draws,
    arm: str,
    terms: Callable[[int, Predictions], Sums],
    scores: Callable[[Sums], np.ndarray],
    shares: Callable[[Sums], np.ndarray] | None = None,
) -> Found:
    """An arm's scores.

    Args:
        terms: of a run, by its place in the study, and its predictions: what images add to sums, [N, ...].
        scores: from sums of any leading shape [...] to [..., K].
        shares: from sums to those that each score is a share of, [..., K]; None where scores are no shares.
    """
    places = [i for i, run in enumerate(study.runs) if run.arm == arm]
    places.sort(key=lambda i: study.runs[i].seed)
    sums = [draws.sums(study.predictions[i], terms(i, study.predictions[i])) for i in places]
    on_test, on_drawn = (scores(part) for part in draws.resample(sums))
    patients = (shares(sums[0]) > 0).sum(0) if shares else None
    return Found([study.runs[i].seed for i in places], on_test, on_drawn, patients)


def compared(study: Study, find: Callable[[str], Found], keys: pl.DataFrame, better: int = 1) -> pl.DataFrame:
    """One row an arm and score: the keys, and COLUMNS.

    `value` is the mean over seeds with its 95 % interval `low` to `high`, each for itself, unless the keys tell of how many
    comparisons it is picked; `difference` is paired by patient and seed, with interval, p-value and `verdict` adjusted for all
    arms and scores of a family (Holm). Null where a score is not defined, for the baseline, and for arms that share no seed
    with it.

    Args:
        find: of an arm, all its scores.
        keys: K rows. Columns of its own use: `family`, of scores that are adjusted together; `least` and `most`, the range
            of a score; `comparisons`, of how many each is picked, for all of which its own interval holds at once (1 where it is left out;
            NaN: no interval).
        better: 1 where more is better, -1 where less is.
    """
    baseline = find(study.baseline)
    rows, pairs = [], []
    for arm in study.arms:
        found = baseline if arm == study.baseline else find(arm)
        rows.append(_values(arm, found, keys))
        shared = sorted(set(found.seeds) & set(baseline.seeds))
        if arm != study.baseline and shared:
            pairs.append(_pair(arm, found, baseline, shared, keys))
    frame = pl.concat(rows).with_columns(baseline=pl.lit(study.baseline))
    told = pl.DataFrame(
        list(_differences(pairs, keys, better)),
        schema={"arm": pl.String, "key": pl.Int64, **dict(list(COLUMNS.items())[5:])},
        orient="row",
    )
    frame = frame.join(told, on=["arm", "key"], how="left", maintain_order="left")
    names = [name for name in keys.columns if name not in OWN]
    return frame.select("arm", *names, *(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items()))


def nothing(keys: pl.DataFrame) -> pl.DataFrame:
    """`compared` of no arm."""
    names = {name: dtype for name, dtype in keys.schema.items() if name not in OWN}
    return pl.DataFrame(schema={"arm": pl.String, **names, **COLUMNS})


def _values(arm: str, found: Found, keys: pl.DataFrame) -> pl.DataFrame:
    mean, variance = found.on_test.mean(0), _variance(found.on_test, found.on_drawn, found.sizes, keys)
    level = statistics.LEVEL / (keys["comparisons"].to_numpy() if "comparisons" in keys.columns else 1)
    alone = statistics.interval(mean, variance, level)
    low = np.maximum(alone.low, keys["least"].to_numpy())
    high = np.minimum(alone.high, keys["most"].to_numpy())
    if found.patients is not None:
        shares = share_interval(mean, variance, np.maximum(found.patients, 1), statistics.LEVEL)
        shared = found.patients > 0
        low, high = np.where(shared, shares.low, low), np.where(shared, shares.high, high)
    numbers = {"value": mean, "low": low, "high": high}
    columns = {
        name: pl.Series(values, dtype=pl.Float64, nan_to_null=True) for name, values in numbers.items()
    }
    return keys.with_row_index("key").with_columns(
        pl.col("key").cast(pl.Int64), arm=pl.lit(arm), seeds=pl.lit(len(found.seeds)), **columns
    )


def _pair(arm: str, found: Found, baseline: Found, shared: list[int], keys: pl.DataFrame) -> Pair:
    first, second = ([one.seeds.index(seed) for seed in shared] for one in (found, baseline))
    on_test = found.on_test[first] - baseline.on_test[second]
    on_drawn = found.on_drawn[:, first] - baseline.on_drawn[:, second]
    sizes = None
    if found.sizes is not None and baseline.sizes is not None:
        sizes = np.minimum(found.sizes, baseline.sizes)
    return Pair(arm, on_test.mean(0), _variance(on_test, on_drawn, sizes, keys))


def _variance(
    on_test: np.ndarray, on_drawn: np.ndarray, sizes: np.ndarray | None, keys: pl.DataFrame
) -> Variance:
    """Where the chance in a mean comes from; see `subgroups.no_less_than_usual`, family by family, for what sizes are there for."""
    variance = known_variance(on_test, on_drawn)
    if sizes is None:
        return variance
    seed = variance.seed.copy()
    for places in _families(keys):
        part = Variance(variance.patients[places], seed[places], variance.num_seeds)
        seed[places] = no_less_than_usual(part, pl.DataFrame({"images": sizes[places]})).seed
    return replace(variance, seed=seed)


def _families(keys: pl.DataFrame) -> list[np.ndarray]:
    """The places of the keys of each family."""
    family = keys["family"].to_numpy()
    return [np.flatnonzero(family == name) for name in keys["family"].unique(maintain_order=True)]


def _differences(pairs: list[Pair], keys: pl.DataFrame, better: int) -> Iterator[tuple[Any, ...]]:
    """Of each family, over all arms: arm, place of the key, and the last five of COLUMNS."""
    for places in _families(keys):
        p = np.array([statistics.p_value(pair.mean, pair.variance)[places] for pair in pairs])
        known = np.isfinite(p)
        adjusted, levels = np.full(p.shape, np.nan), np.full(p.shape, statistics.LEVEL)
        adjusted[known], levels[known] = statistics.holm(p[known]), statistics.family_levels(p[known])
        for number, pair in enumerate(pairs):
            every = np.full(len(keys), statistics.LEVEL)
            every[places] = levels[number]
            joint = statistics.interval(pair.mean, pair.variance, every)
            for k, holm, told in zip(places, adjusted[number], known[number], strict=True):
                if told:
                    low, high = float(joint.low[k]), float(joint.high[k])
                    said = verdict(*sorted((better * low, better * high)))
                    yield pair.arm, int(k), float(pair.mean[k]), low, high, float(holm), said
