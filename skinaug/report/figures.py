"""The figures of a report: a study's numbers, handed to the kind of plot that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from skinaug.report import artifacts, calibration, collect, exchange, measure, parts, plots, swept, thresholds
from skinaug.report.collect import Study
from skinaug.report.measure import SCORES, Draws, Measured

CURVES = {
    "train/loss": ("Training loss", 1),
    "val/loss": ("Validation loss", 1),
    "val/top1": ("Validation top-1, %", 100),
}


def draw_figures(
    study: Study, measured: Measured, draws: Draws, frames: Mapping[str, pl.DataFrame]
) -> dict[str, list[str]]:
    """Each part of the page with its figures, as SVG."""
    colours = plots.arm_colours(study.arms, study.baseline)
    drawn = drawn_arms(study, frames["arms"])
    return {
        "scores": [
            _scores_figure(study, measured, drawn, name, colours) for name in ("top1", "balanced_accuracy")
        ],
        "differences": [
            _differences_figure(measured, frames["differences"], drawn, name, colours)
            for name in ("top1", "balanced_accuracy")
            if frames["differences"].height
        ],
        "sweeps": [_sweep_figure(study, frames["arms"], key, "top1") for key in swept.numbers(study)],
        "exchange": _exchange_figures(study, measured, frames["exchange"]),
        "curves": _curves_figures(study, drawn, colours),
        "calibration": calibration.calibration_figures(study, draws, measure.shown_arms(frames["arms"])),
        "decision_curves": _decision_curves(frames),
    }


def _decision_curves(frames: Mapping[str, pl.DataFrame]) -> list[str]:
    """Of the classes and groups that were asked for, with the arms that a detailed view has room for."""
    arms = measure.shown_arms(frames["arms"])
    found = [frames[name] for name in ("decision_curves", f"{parts.GROUPS}decision_curves") if name in frames]
    return [svg for frame in found for svg in thresholds.decision_curves(frame, arms)]


def drawn_arms(study: Study, arms: pl.DataFrame) -> list[str]:
    """Arms that figures show, where one has a line or a colour of its own."""
    return plots.ends(dict(arms.select("arm", "top1").iter_rows()), study.baseline)


def _scores_figure(
    study: Study, measured: Measured, drawn: Sequence[str], metric: str, colours: Mapping[str, str]
) -> str:
    rows = []
    for arm in drawn:
        estimate = measured.estimate(arm, metric)
        mean, low, high = (100 * float(value) for value in (estimate.mean, estimate.low, estimate.high))
        seeds = {seed: 100 * float(measured.scores[arm, seed][metric]) for seed in measured.seeds(arm)}
        rows.append(plots.Row(arm, mean, low, high, seeds))
    return plots.dots(rows, colours, f"{SCORES[metric]}, %")


def _differences_figure(
    measured: Measured,
    differences: pl.DataFrame,
    drawn: Sequence[str],
    metric: str,
    colours: Mapping[str, str],
) -> str:
    rows, margin = [], None
    chosen = (pl.col("metric") == metric) & pl.col("arm").is_in(list(drawn))
    for row in differences.filter(chosen).iter_rows(named=True):
        arm, baseline = row["arm"], row["baseline"]
        seeds = {
            seed: 100 * float(measured.scores[arm, seed][metric] - measured.scores[baseline, seed][metric])
            for seed in measured.seeds(arm, baseline)
        }
        margin = 100 * row["margin"] if row.get("margin") is not None else None
        bounds = 100 * row["low_adjusted"], 100 * row["high_adjusted"]
        rows.append(plots.Row(arm, 100 * row["difference"], *bounds, seeds))
    return plots.dots(rows, colours, f"{SCORES[metric]}, difference in points", zero=True, margin=margin)


def _sweep_figure(study: Study, arms: pl.DataFrame, key: str, metric: str) -> str:
    numbers = swept.numbers(study)[key]
    by_arm = {
        row["arm"]: tuple(100 * row[name] for name in (metric, f"{metric}_low", f"{metric}_high"))
        for row in arms.iter_rows(named=True)
    }
    found = {
        name: sorted(plots.Point(numbers[arm], arm, *by_arm[arm]) for arm in members if arm in numbers)
        for name, members in swept.series(study, key).items()
    }
    known = {name: points for name, points in found.items() if points}
    chosen = {name: known[name] for name in plots.spread(list(known))}
    several = f" ({len(chosen)} of {len(known)} series)" if len(chosen) < len(known) else ""
    return plots.bands(chosen, f"{SCORES[metric]}, %{several}", swept.heading(key))


def _exchange_figures(study: Study, measured: Measured, frame: pl.DataFrame) -> list[str]:
    """Learning curves of real images, each with the arms that are held against it: all counts of real images of some series."""
    svgs = []
    for drawing in exchange.drawings(study, measured, frame):
        points = [
            plots.Point(
                count, f"{count:,.4g} real / class", *(100 * float(v) for v in (own.mean, own.low, own.high))
            )
            for count, own in drawing.points.items()
        ]
        joins: dict[str, list[plots.Join]] = {}
        for row in drawing.arms:
            join = _join(study, measured, row)
            joins.setdefault(join.label, []).append(join)
        most = max(1, plots.MOST_ARMS // max(len(own) for own in joins.values()))
        chosen = [join for label in plots.spread(list(joins), most) for join in joins[label]]
        several = f" ({len(chosen)} of {len(drawing.arms)} arms)" if len(chosen) < len(drawing.arms) else ""
        title = f"{SCORES[exchange.JUDGE]}, %{several}"
        svgs.append(
            plots.exchange(points, (100 * drawing.risen).tolist(), chosen, title, "Real images / class")
        )
    return svgs


def _join(study: Study, measured: Measured, row: Mapping[str, Any]) -> plots.Join:
    arm = row["arm"]
    overrides = study.of(arm)[0].overrides
    keys = [key for key in collect.varying(study.runs) if not key.startswith("mix.real") and key in overrides]
    label = ", ".join(swept.setting(key, overrides[key]) for key in keys) or arm
    score = 100 * float(measured.estimate(arm, exchange.JUDGE).mean)
    equivalent, worth = exchange.told(row)
    said = f"{arm}: {score:.1f}, as much as {equivalent} real / class; a synthetic image is worth {worth}"
    return plots.Join(label, row["real"], score, row["equivalent"], said)


def _curves_figures(study: Study, drawn: Sequence[str], colours: Mapping[str, str]) -> list[str]:
    tables = {arm: {run.seed: artifacts.curves(run) for run in study.of(arm)} for arm in drawn}
    svgs = []
    for column, (title, scale) in CURVES.items():
        found = {
            arm: {seed: plots.curve(table, column, scale) for seed, table in own.items()}
            for arm, own in tables.items()
        }
        known = {
            arm: {seed: curve for seed, curve in own.items() if curve is not None}
            for arm, own in found.items()
        }
        known = {arm: own for arm, own in known.items() if own}
        svgs += [plots.lines(known, colours, title)] * bool(known)
    return svgs
