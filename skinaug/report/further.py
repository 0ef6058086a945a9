"""Further test sets: what classifiers do on photographs from elsewhere, and how much of a gain carries over to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from skinaug.report import artifacts, measure, statistics
from skinaug.report.collect import EVALUATED, Study
from skinaug.report.measure import SCORES, Measured
from skinaug.report.tables import Cell, Table, percent, points, table

JUDGES = ("top1", "balanced_accuracy")
NUMBERS = (
    *("score", "low", "high", "own", "change", "change_low", "change_high"),
    *("difference", "difference_low", "difference_high", "p_holm", "own_difference", "own_low", "own_high"),
    *("gain_change", "gain_change_low", "gain_change_high", "carried", "carried_low", "carried_high"),
)
FURTHER = {
    "test_set": pl.String,
    "arm": pl.String,
    "metric": pl.String,
    "seeds": pl.Int64,
    **dict.fromkeys(NUMBERS, pl.Float64),
    "verdict": pl.String,
}


def further_frame(study: Study, measured: Measured, num_resamples: int, seed: int) -> pl.DataFrame:
    """One row a further test set, arm and score of JUDGES. Columns:

    - `score`, `low`, `high`: there; `own`: on the data's own test set; `change`, `change_low`, `change_high`: the one less the other;
    - `difference` to the baseline there, with `difference_low` and `difference_high`, `p_holm` and `verdict`, adjusted for the number
      of arms as in `measure.differences`; `own_difference`, `own_low`, `own_high`: on the own test set, each for itself;
    - `gain_change` and its ends: the one difference less the other; `carried` and its ends: the one over the other
      (`statistics.ratio`), null where the own difference is not shown. Null for the baseline.

    Intervals are of 95 %, over seeds, which both test sets share, and over the patients of each.
    """
    seeds = np.random.SeedSequence(seed).generate_state(len(study.test_sets) + 1)[1:]
    rows: list[dict[str, Any]] = []
    for name, own_seed in zip(study.test_sets, seeds, strict=True):
        there = study.on(name)
        judged = measure.measure(there, num_resamples, int(own_seed))
        differences = measure.differences_frame(there, judged)
        found = {(row["arm"], row["metric"]): row for row in differences.iter_rows(named=True)}
        for arm in there.arms:
            for metric in JUDGES:
                row = {"test_set": name, "arm": arm, "metric": metric, "seeds": len(judged.seeds(arm))}
                row |= _score(measured, judged, arm, metric)
                if (difference := found.get((arm, metric))) is not None:
                    row |= _gain(measured, judged, difference)
                rows.append(row)
    return pl.DataFrame(rows, schema=FURTHER)


def _score(measured: Measured, judged: Measured, arm: str, metric: str) -> dict[str, Any]:
    estimate = judged.estimate(arm, metric)
    own, there = _paired(measured, judged, {arm: 1}, metric)
    change = statistics.two_level(*(one - other for one, other in zip(there, own, strict=True)))
    return {
        "score": float(estimate.mean),
        "low": float(estimate.low),
        "high": float(estimate.high),
        "own": float(own[0].mean()),
        "change": float(change.mean),
        "change_low": max(float(change.low), -1.0),
        "change_high": min(float(change.high), 1.0),
    }


def _gain(measured: Measured, judged: Measured, difference: Mapping[str, Any]) -> dict[str, Any]:
    arm, baseline, metric = (difference[name] for name in ("arm", "baseline", "metric"))
    own, there = _paired(measured, judged, {arm: 1, baseline: -1}, metric)
    here = statistics.two_level(*own)
    change = statistics.two_level(*(one - other for one, other in zip(there, own, strict=True)))
    carried = statistics.ratio(there, own)
    share = () if carried is None else (carried.mean, carried.low, carried.high)
    return {
        "difference": difference["difference"],
        "difference_low": difference["low_adjusted"],
        "difference_high": difference["high_adjusted"],
        "p_holm": difference["p_holm"],
        "verdict": difference["verdict"],
        "own_difference": float(here.mean),
        "own_low": float(here.low),
        "own_high": float(here.high),
        "gain_change": float(change.mean),
        "gain_change_low": float(change.low),
        "gain_change_high": float(change.high),
        **dict(zip(("carried", "carried_low", "carried_high"), map(float, share), strict=False)),
    }


def _paired(
    measured: Measured, judged: Measured, weights: Mapping[str, float], metric: str
) -> tuple[statistics.Pair, statistics.Pair]:
    """A weighted sum of arms' scores at the seeds that both test sets have, on the own one and on the further one. Their
    patients are drawn apart: the test sets share the chance of training alone."""
    both = [set(found.seeds(*weights)) for found in (measured, judged)]
    shared = sorted(set.intersection(*both))
    pairs = []
    for found in (measured, judged):
        places = [found.seeds(*weights).index(seed) for seed in shared]
        scores, resampled = found.values(weights, metric)
        pairs.append((scores[places], resampled[:, places]))
    return pairs[0], pairs[1]


def further_tables(study: Study, frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """By test set: `facts` in sentences, and the tables of `shown`."""
    return {name: {"facts": list(_facts(study, name)), **tables} for name, tables in shown(frame).items()}


def shown(frame: pl.DataFrame, metrics: Sequence[str] = JUDGES) -> dict[str, dict[str, Any]]:
    """By test set of a `further_frame`: a table of `scores` and, where there are several arms, one of `gains`."""
    found: dict[str, dict[str, Any]] = {}
    for (name,), part in frame.group_by("test_set", maintain_order=True):
        arms = {
            str(arm): {row["metric"]: row for row in rows.iter_rows(named=True)}
            for (arm,), rows in part.group_by("arm", maintain_order=True)
        }
        gains = {arm: rows for arm, rows in arms.items() if rows["top1"]["difference"] is not None}
        found[str(name)] = {
            "scores": _scores_table(arms, metrics),
            "gains": _gains_table(gains, metrics) if gains else None,
        }
    return found


def _facts(study: Study, name: str) -> Iterator[str]:
    for folder in study.on(name).artifacts("dataset"):
        summary = json.loads((folder / "summary.json").read_text())
        yield f"{summary['images']:,} photographs of {summary['patients']:,} patients."
        yield from summary["told"]
    runs = [run for run in study.jobs if EVALUATED + name in run.artifacts]
    held = [run for run in runs if artifacts.holds(run.artifacts[f"certify.{name}"])]
    yield f"The leak certificate holds for {len(held)} of {len(runs)} runs."


def _scores_table(arms: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> Table:
    rows = []
    for arm, by_metric in arms.items():
        cells: list[Any] = []
        for metric in metrics:
            row = by_metric[metric]
            cells.append(Cell(percent(row["score"]), f"{percent(row['low'])}–{percent(row['high'])}"))
            cells.append(_points(row, "change", "change_low", "change_high"))
        rows.append([arm, by_metric["top1"]["seeds"], *cells])
    header = [words for metric in metrics for words in (SCORES[metric], "less own test")]
    return table(["Arm", "Seeds", *header], rows)


def _gains_table(arms: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> Table:
    rows = []
    for arm, by_metric in arms.items():
        cells: list[Any] = []
        for metric in metrics:
            row = by_metric[metric]
            cells += [
                _points(row, "difference", "difference_low", "difference_high"),
                _points(row, "own_difference", "own_low", "own_high"),
                _share(row),
            ]
        rows.append([arm, by_metric["top1"]["verdict"], *cells])
    columns = ["Here", "On the own test", "Carried over"]
    shown = table(["Arm", "Verdict by top-1", *columns * len(metrics)], rows, words=2)
    groups = [("", 2), *((SCORES[metric], len(columns)) for metric in metrics)]
    return Table(shown.header, shown.rows, shown.words, groups)


def _points(row: Mapping[str, Any], name: str, low: str, high: str) -> Cell:
    return Cell(points(row[name]), f"{points(row[low])} to {points(row[high])}")


def _share(row: Mapping[str, Any]) -> Cell:
    if row["carried"] is None:
        return Cell("–", "no own gain or loss shown")
    ends = [_percents(row[end]) for end in ("carried_low", "carried_high")]
    return Cell(f"{_percents(row['carried'])} %", " to ".join(ends))


def _percents(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "−").replace("inf", "∞")
