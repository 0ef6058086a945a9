"""What one synthetic image is worth: real images that would do as much, from the scores of arms without synthetic ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.optimize import isotonic_regression

from skinaug.report import artifacts, collect, learning_curve, planning, statistics
from skinaug.report.collect import Run, Study
from skinaug.report.measure import SCORES, Measured
from skinaug.report.tables import Cell, Table, number, table

JUDGE = "top1"  # the score that images are worth something in
MOST_NAMED = 6  # arms that a note names
SETTINGS = ("dataset", "backbone", "classify")  # parts of the config in which an arm and its curve must agree
COUNTS = (
    "name",
    "synthetic_ratio",
    "synthetic_per_class",
    "seed",
)  # of a mix, in which a series of ratios may differ
Images = Mapping[str, tuple[float, float]]  # real and synthetic images a class, by arm
Points = Mapping[float, Sequence[str]]  # arms of real images only, by their count a class, rising
EXCHANGE = {
    "arm": pl.String,
    "seeds": pl.Int64,
    "real": pl.Float64,
    "synthetic": pl.Float64,
    "ratio": pl.Float64,
    "equivalent": pl.Float64,
    "rate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "least": pl.Float64,
    "most": pl.Float64,
    "saturation": pl.Float64,
    "reason": pl.String,
}


def exchange_frame(study: Study, measured: Measured) -> pl.DataFrame:
    """One row an arm with synthetic images: how many real images each of them is worth, by top-1.

    Columns: `real` and `synthetic` images a class (mean over classes and seeds), `ratio` of the two; `equivalent`, `rate`,
    `low` and `high` as in `learning_curve.Worth`, null where not measurable, for the `reason` given; `least` and `most`, the
    rates between which the curve can measure; `saturation`, the smallest ratio of the arm's series after which no larger one
    differs by more than the design had 80 % power to see; null where that is the series' last, or there is no series.
    """
    images = counts(study)
    saturated = saturation(study, measured, images)
    points = curve_points(study, images)
    rows = [
        {**_row(measured, images, points[arm], arm), "saturation": saturated.get(arm)}
        for arm in study.arms
        if images[arm][1] > 0
    ]
    return pl.DataFrame(rows, schema=EXCHANGE)


def _row(measured: Measured, images: Images, points: Points, arm: str) -> dict[str, Any]:
    real, synthetic = images[arm]
    row = {"arm": arm, "real": real, "synthetic": synthetic, "ratio": synthetic / real if real else None}
    seeds = measured.seeds(arm, *(other for others in points.values() for other in others))
    row["seeds"] = len(seeds)
    if not seeds or not points:
        why = "no seed is shared with them" if points else "there are none with the arm's settings"
        return {**row, "reason": f"it takes arms of real images only, and {why}"}
    curve = learning_curve.Curve(np.array(list(points)), *_curve(measured, list(points.values()), seeds))
    reason = learning_curve.no_curve(curve)
    if reason:
        return {**row, "reason": reason}
    least, most = ((curve.counts[i] - real) / synthetic for i in (0, -1))
    scores, resampled = _curve(measured, [[arm]], seeds)
    found = learning_curve.worth(curve, scores[..., 0], resampled[..., 0], real, synthetic)
    return {**row, **vars(found), "least": least, "most": most, "reason": ""}


def curve_points(study: Study, images: Images) -> dict[str, Points]:
    """For each arm, the arms of real images only that it is held against: those of its settings, by their count a class."""
    alike = {arm: settings(study.of(arm)[0]) for arm in study.arms}
    found: dict[str, dict[float, list[str]]] = {}
    for arm in study.arms:
        if images[arm][1] == 0 and not control(study.of(arm)[0]):
            found.setdefault(alike[arm], {}).setdefault(images[arm][0], []).append(arm)
    return {arm: dict(sorted(found.get(alike[arm], {}).items())) for arm in study.arms}


@dataclass(frozen=True)
class Drawing:
    """A learning curve of real images and the arms that are held against it.

    Attributes:
        points: real images a class, rising, with the score of the arms that have so many.
        risen: float [K], the curve that equivalents are read off.
        arms: rows of `exchange_frame`.
    """

    points: Mapping[float, statistics.Estimate]
    risen: np.ndarray
    arms: Sequence[Mapping[str, Any]]


def drawings(study: Study, measured: Measured, exchange: pl.DataFrame) -> list[Drawing]:
    """The curves that arms can be measured on, each with its arms."""
    by_arm = curve_points(study, counts(study))
    found: dict[str, tuple[Points, list[dict[str, Any]]]] = {}
    for row in exchange.filter(pl.col("reason") == "").iter_rows(named=True):
        points = by_arm[row["arm"]]
        found.setdefault(repr(points), (points, []))[1].append(row)
    drawn = []
    for points, arms in found.values():
        seeds = measured.seeds(*(arm for others in points.values() for arm in others))
        scores, resampled = _curve(measured, list(points.values()), seeds)
        estimates = [statistics.two_level(scores[:, k], resampled[..., k]) for k in range(len(points))]
        risen = isotonic_regression(scores.mean(0)).x
        drawn.append(Drawing(dict(zip(points, estimates, strict=True)), risen, arms))
    return drawn


def _curve(
    measured: Measured, points: Sequence[Sequence[str]], seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of each point, the mean over its arms, at each seed: [S, K] on the test set and [B, S, K] on resampled ones."""
    on_test, on_resampled = (
        np.stack(
            [
                np.stack([np.mean([found[arm, seed][JUDGE] for arm in arms], 0) for seed in seeds], -1)
                for arms in points
            ],
            -1,
        )
        for found in (measured.scores, measured.resampled)
    )
    return on_test, on_resampled


def saturation(study: Study, measured: Measured, images: Images) -> dict[str, float]:
    """The ratio at which each arm's series saturates: arms that differ in nothing but the number of synthetic images.

    The arm of as many real images and no synthetic ones is the series' ratio 0. Arms whose series does not saturate before
    its last ratio, or has fewer than two ratios above 0, are left out.
    """
    series: dict[str, list[str]] = {}
    for arm in study.arms:
        if images[arm][0] > 0 and images[arm][1] > 0:
            series.setdefault(_series(study.of(arm)[0], images[arm][0]), []).append(arm)
    points = curve_points(study, images)
    found: dict[str, float] = {}
    for arms in series.values():
        real = images[arms[0]][0]
        alone = points[arms[0]].get(real, [])
        members = sorted([*alone[:1], *arms], key=lambda arm: images[arm][1])
        point = _saturates(measured, members) if len(arms) > 1 else None
        if point is not None:
            found |= dict.fromkeys(arms, images[point][1] / real)
    return found


def _saturates(measured: Measured, arms: Sequence[str]) -> str | None:
    """The first of arms, by ratio, that no later one differs from by more than could be seen; None where it is the last."""
    level = statistics.LEVEL / (len(arms) * (len(arms) - 1) / 2)

    def differs(arm: str, larger: str) -> bool:
        if not measured.seeds(larger, arm):
            return False
        difference, variance = measured.difference(larger, arm, JUDGE)
        return abs(difference) > float(planning.detectable(variance, level))

    settled = (
        arm for i, arm in enumerate(arms[:-1]) if not any(differs(arm, larger) for larger in arms[i + 1 :])
    )
    return next(settled, None)


def counts(study: Study) -> dict[str, tuple[float, float]]:
    """Real (distinct) and synthetic training images a class of each arm, mean over classes and seeds; NaN where nobody knows."""
    found = {}
    for arm in study.arms:
        mixes = pl.concat([artifacts.mix_table(run) for run in study.of(arm)])
        real, synthetic = (
            float(mixes[source].to_numpy().mean()) if mixes.height else np.nan
            for source in ("real", "synthetic")
        )
        found[arm] = real, synthetic
    return found


def mix(run: Run) -> dict[str, Any]:
    """The config of a run's mix."""
    config = run.config.get("mix", {})
    return dict(config) if isinstance(config, Mapping) else {}


def control(run: Run) -> str | None:
    """What stands in for the run's synthetic images, if anything."""
    return mix(run).get("control")


def settings(run: Run) -> str:
    """What arms that are held against each other must share."""
    return repr([without_seed(run.config.get(name)) for name in SETTINGS])


def _series(run: Run, real: float) -> str:
    own = {name: value for name, value in mix(run).items() if name not in COUNTS}
    return repr((settings(run), own, real, run.artifacts.get("curate")))


def without_seed(value: Any) -> Any:
    """A config without seeds at any depth."""
    if isinstance(value, Mapping):
        return {name: without_seed(inner) for name, inner in value.items() if name != "seed"}
    return value


def exchange_table(exchange: pl.DataFrame) -> Table | None:
    """A row an arm that can be measured; None where none can."""
    rows = [_cells(row) for row in exchange.filter(pl.col("reason") == "").iter_rows(named=True)]
    header = [
        "Arm",
        "Real / class",
        "Synthetic / class",
        "Ratio",
        "Does as much as real / class",
        "One is worth",
    ]
    return table(header, rows) if rows else None


def _cells(row: Mapping[str, Any]) -> list[Any]:
    return [
        row["arm"],
        number(round(row["real"])),
        number(round(row["synthetic"])),
        "–" if row["ratio"] is None else f"{row['ratio']:.2g}",
        *told(row),
    ]


def told(row: Mapping[str, Any]) -> tuple[str, Cell]:
    """Of a row of `exchange_frame` that can be measured: real images a class that do as much, and what one image is worth."""
    least, most = row["least"], row["most"]
    first, last = (row["real"] + rate * row["synthetic"] for rate in (least, most))
    ends = [_bounded(row[end], least, most) for end in ("low", "high")]
    equivalent = _bounded(row["equivalent"], first, last, decimals=0)
    return equivalent, Cell(_bounded(row["rate"], least, most), " to ".join(ends))


def exchange_notes(exchange: pl.DataFrame) -> list[str]:
    """Why arms cannot be measured, and where their series saturate."""
    notes = []
    for (reason,), part in exchange.filter(pl.col("reason") != "").group_by("reason", maintain_order=True):
        notes.append(f"Not measurable for {_names(part)}: {reason}.")
    known = exchange.filter(pl.col("saturation").is_not_null())
    for (ratio,), part in known.group_by("saturation", maintain_order=True):
        notes.append(
            f"Beyond {float(ratio):.2g} synthetic images to a real one, more of them change {SCORES[JUDGE].lower()} by no more "
            f"than this design could see ({_names(part)})."
        )
    return notes


def _names(arms: pl.DataFrame) -> str:
    return collect.listed(arms["arm"].to_list()) if arms.height <= MOST_NAMED else f"{arms.height} arms"


def _bounded(value: float, least: float, most: float, decimals: int = 2) -> str:
    """A number, or on which side of what can be measured it lies."""
    if np.isinf(value):
        return (
            f"more than {_signed(most, decimals)}" if value > 0 else f"less than {_signed(least, decimals)}"
        )
    return _signed(value, decimals)


def _signed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")
