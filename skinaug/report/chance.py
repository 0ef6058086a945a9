"""Where the chance in scores comes from: test patients, training, pools, and the photographs that there happened to be to learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from skinaug.report.collect import Study
from skinaug.report.folds import split
from skinaug.report.measure import Measured
from skinaug.report.run import FOLD
from skinaug.report.tables import Cell, Table, number, points, table
from skinaug.report.units import jobs_of

JUDGE = "top1"
PARTS = {
    "patients": "Test patients",
    "training": "Training",
    "pools": "Pools",
    "sets": "Training photographs",
}
CHANCE = {
    "arm": pl.String,
    "baseline": pl.String,
    "units": pl.Int64,
    "unit": pl.String,
    "standard_error": pl.Float64,
    **dict.fromkeys(PARTS, pl.Float64),
}


def told(study: Study) -> bool:
    """Whether a study repeats more than seeds: splits, pools or folds."""
    return study.unit != "seed" or any(run.parts for run in study.runs)


def chance_frame(study: Study, measured: Measured) -> pl.DataFrame:
    """One row an arm, and one a difference to the baseline: the standard error of its top-1, and the shares of its square that come
    from test `patients`, from `training` with other seeds, from `pools` of other seeds, and from the `sets` of photographs that
    folds or splits have to learn from. No rows where a study repeats nothing but seeds.

    Pools and the seeds within them are told apart by a nested analysis of variance (Searle, Casella and McCulloch 1992, Variance
    Components, 3.6), which needs a pool of two seeds or more; without one `training` is null, and `pools` is both. Of several splits,
    `training` is the spread over them, of whatever it comes.
    """
    if not told(study):
        return pl.DataFrame(schema=CHANCE)
    by_seed = {(run.arm, run.seed): top1_by_seed(study, place) for place, run in enumerate(study.runs)}
    rows = []
    for arm in study.arms:
        rows.append(_row(study, measured, by_seed, {arm: 1}))
        if arm != study.baseline and measured.seeds(arm, study.baseline):
            rows.append(_row(study, measured, by_seed, {arm: 1, study.baseline: -1}))
    return pl.DataFrame(rows, schema=CHANCE)


def top1_by_seed(study: Study, place: int) -> dict[int, float]:
    """Top-1 of each seed of the run at `place`, all its folds together."""
    right: dict[int, list[np.ndarray]] = {}
    predictions = study.predictions[place]
    for job, own in zip(jobs_of([study.runs[place]]), split(predictions), strict=True):
        right.setdefault(job.seed, []).append(own.probabilities.argmax(1) == own.labels)
    return {seed: float(np.concatenate(own).mean()) for seed, own in right.items()}


def _row(
    study: Study,
    measured: Measured,
    by_seed: Mapping[tuple[str, int], Mapping[int, float]],
    weights: Mapping[str, float],
) -> dict[str, Any]:
    arm, baseline = next(iter(weights)), study.baseline if len(weights) > 1 else None
    _, variance = measured.chance(weights, JUDGE)
    total, _ = variance.of_mean()
    own = float(variance.seed / variance.num_seeds)
    parts: dict[str, Any] = {"patients": variance.patients, "training": own, "sets": variance.training}
    if study.unit == "pool":
        within = _within(by_seed, weights, measured.seeds(*weights))
        parts |= {
            "training": None if within is None else min(within, own),
            "pools": max(own - (within or 0.0), 0.0),
        }
    shares = {
        name: None if value is None else float(value / total) if total > 0 else 0.0
        for name, value in parts.items()
    }
    about = {"arm": arm, "baseline": baseline, "units": variance.num_seeds, "unit": study.unit}
    return {**dict.fromkeys(CHANCE), **about, "standard_error": float(np.sqrt(total)), **shares}


def _within(
    by_seed: Mapping[tuple[str, int], Mapping[int, float]], weights: Mapping[str, float], units: list[int]
) -> float | None:
    """What seeds within pools make of the variance of the mean over pools; None where no pool has two."""
    squares, freedom, per_pool = 0.0, 0, []
    for unit in units:
        shared = sorted(set.intersection(*(set(by_seed[arm, unit]) for arm in weights)))
        values = [sum(w * by_seed[arm, unit][seed] for arm, w in weights.items()) for seed in shared]
        squares += float(np.sum((np.array(values) - np.mean(values)) ** 2))
        freedom += len(values) - 1
        per_pool.append(1 / len(values))
    return squares / freedom * float(np.mean(per_pool)) / len(units) if freedom else None


def notes(study: Study, frame: pl.DataFrame) -> Iterator[str]:
    """How the study repeats, and what its intervals are over.

    frame: `chance_frame` of the same study.
    """
    jobs = study.jobs
    folds = {job.overrides[FOLD] for job in jobs if FOLD in job.overrides}
    if len(folds) > 1 and told(study):
        patients = len({group for predictions in study.predictions for group in predictions.groups})
        yield (
            f"{len(folds)} folds: each of {number(patients)} patients is judged once an arm and seed, by the classifier whose fold has not seen "
            "them. Their training photographs overlap, so what folds differ by, beyond patients and seeds, counts with Nadeau and Bengio's "
            "correction (2003) in the intervals of scores, recalls and differences; those of calibration, thresholds and subgroups cover "
            "patients and seeds alone. AUROC is that within each fold, averaged."
        )
        if study.unit == "seed" and len({job.seed for job in jobs}) == 1:
            yield (
                "With one seed, the spread over folds stands for the chance of training: what another seed would change with the same "
                "photographs is not told apart."
            )
    if any((job.config.get("folds") or {}).get("refit") == "classify" for job in jobs) and len(folds) > 1:
        yield (
            "One generator, one pool and one set of filters serve all folds (folds.refit=classify). They have learned from photographs of patients "
            "who are in the test of no fold, and who are not judged; their own chance is the same in all folds and in no interval."
        )
    if study.unit == "split":
        splits = len({run.seed for run in study.runs})
        yield (
            f"{splits} splits of the data (dataset.seed) are repetitions, not arms: intervals are over splits, whose seeds count together, with "
            "Nadeau and Bengio's correction for training photographs that they share."
        )
    if study.unit == "pool":
        yield from _of_pools(study, frame)


def _of_pools(study: Study, frame: pl.DataFrame) -> Iterator[str]:
    pools = sorted({run.seed for run in study.runs})
    seeds = len({job.seed for job in study.jobs})
    yield (
        f"{len(pools)} pools of other seeds, nested: each of {seeds} seeds draws from one pool, seed s from number s mod {len(pools)}. Intervals "
        f"are over these {len(pools)} pools: seeds that share a pool count once. The weights that draw are the same, "
        "so the chance of fine-tuning is not in them."
    )
    for row in frame.filter(pl.col("baseline").is_not_null()).head(MOST_TOLD).iter_rows(named=True):
        shares = {name: f"{100 * row[name]:.0f} %" for name in PARTS if row[name] is not None}
        if row["training"] is None:
            shares["pools and training, which one seed a pool does not tell apart,"] = shares.pop("pools")
        words = ", ".join(f"{name} {share}" for name, share in shares.items() if name != "sets")
        yield f"Of the chance in {row['arm']} less {row['baseline']} (variance of top-1), {words}."


MOST_TOLD = 3  # differences that notes speak of


def chance_table(frame: pl.DataFrame) -> Table | None:
    """A row an arm or difference: its standard error in points, and where it comes from."""
    if frame.is_empty():
        return None
    shown = [name for name in PARTS if frame[name].is_not_null().any()]
    rows = []
    for row in frame.iter_rows(named=True):
        name = row["arm"] if row["baseline"] is None else f"{row['arm']} less {row['baseline']}"
        shares = [Cell("–") if row[part] is None else Cell(f"{100 * row[part]:.0f} %") for part in shown]
        rows.append([name, row["units"], points(row["standard_error"]).removeprefix("+"), *shares])
    kind = {"seed": "Seeds", "pool": "Pools", "split": "Splits"}[frame["unit"][0]]
    return table(["Top-1 of", kind, "Standard error", *(PARTS[name] for name in shown)], rows)
