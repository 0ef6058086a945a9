"""The kinds of figure that a report has, drawn from plain numbers: widths suit a phone, colours suit colour-blind readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from skinaug.report.svg import INK, make_figure, tell, to_svg

if TYPE_CHECKING:  # matplotlib takes a second to import: only when something is drawn
    from matplotlib.figure import Figure

FAINT = "#bbbbbb"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1")  # Okabe and Ito 2008
MOST_POINTS = 60  # of one curve; more would only make the file larger
MOST_ARMS = 24  # of one figure
MOST_SERIES = 7  # lines of one figure: as many as colours are told apart
MOST_TICKS, NEAREST_TICKS = 8, 0.06  # labels of an axis, and their least distance as a share of it
LONG_LABEL = 22  # characters of a legend


def arm_colours(arms: Sequence[str], baseline: str) -> dict[str, str]:
    """A colour for each arm: the baseline is dark grey, many arms get a graded scale in their order."""
    others = [arm for arm in arms if arm != baseline]
    colours = PALETTE[: len(others)] if len(others) <= len(PALETTE) else _graded(len(others))
    chosen = {**dict(zip(others, colours, strict=True)), baseline: "#444444"}
    return {arm: chosen[arm] for arm in arms}


def _graded(count: int) -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 0.9, count))]


def ends(scores: Mapping[str, float], keep: str, most: int = MOST_ARMS) -> list[str]:
    """The arms to draw where there are too many: half of them from either end of the scores, and one that must be there."""
    if len(scores) <= most:
        return list(scores)
    ranked = sorted((arm for arm in scores if arm != keep), key=lambda arm: scores[arm])
    half = (most - 1) // 2
    chosen = {keep, *ranked[:half], *ranked[-half:]}
    return [arm for arm in scores if arm in chosen]


class Row(NamedTuple):
    """An arm in a forest plot, in per cent or points: estimate with its interval, and the value of each seed."""

    arm: str
    estimate: float
    low: float
    high: float
    seeds: Mapping[int, float]


def dots(
    rows: Sequence[Row],
    colours: Mapping[str, str],
    title: str,
    zero: bool = False,
    margin: float | None = None,
) -> str:
    """One line an arm, top to bottom: estimate, 95 % interval and below it the seeds; with `zero`, a line of no difference, and
    dashed ones at minus and plus a `margin`."""
    longest = max(len(row.arm) for row in rows)
    figure, axes = make_figure(min(max(3.9, 2.7 + 0.08 * longest), 5.5), 0.75 + 0.3 * len(rows), "")
    figure.suptitle(
        title, x=0.01, ha="left", fontsize=9
    )  # over the names too: beside long ones it has no room
    for y, row in enumerate(rows):
        colour, said = colours[row.arm], f"{row.arm}: {_told(row.estimate, row.low, row.high, zero)}"
        marks = [
            *axes.plot([row.low, row.high], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt"),
            *axes.plot([row.estimate], [y], "s", color=colour, markersize=5),
        ]
        for mark in marks:
            tell(mark, [said])
        below = [y + 0.28] * len(row.seeds)
        (points,) = axes.plot(
            list(row.seeds.values()), below, "o", color=colour, markersize=3, alpha=0.7, markeredgewidth=0
        )
        tell(
            points,
            [f"{row.arm}, seed {seed}: {_number(value, zero)}" for seed, value in row.seeds.items()],
        )
    if zero:
        axes.axvline(0, color=INK, linewidth=0.8, zorder=0)
    for place in () if margin is None else (-margin, margin):
        axes.axvline(place, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(range(len(rows)), [row.arm for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return to_svg(figure, title)


def lines(
    arms: Mapping[str, Mapping[int, tuple[np.ndarray, np.ndarray]]],
    colours: Mapping[str, str],
    title: str,
    xlabel: str = "Optimizer step",
) -> str:
    """Curves of each arm: seeds as thin lines, their mean as a thick one. arms: name -> seed -> (x [n], y [n]); empty ones, as of
    very few images, are left out."""
    figure, axes = make_figure(3.3, 2.3, title)
    drawn = {
        arm: {seed: curve for seed, curve in curves.items() if len(curve[0])} for arm, curves in arms.items()
    }
    for arm, curves in {arm: curves for arm, curves in drawn.items() if curves}.items():
        for seed, (x, y) in curves.items():
            (thin,) = axes.plot(*_thin(x, y), color=colours[arm], linewidth=0.5, alpha=0.5)
            tell(thin, [f"{arm}, seed {seed}"])
        (thick,) = axes.plot(*_thin(*_mean_curve(list(curves.values()))), color=colours[arm], linewidth=1.7)
        tell(thick, [f"{arm}, mean of {len(curves)} seed{'s' * (len(curves) > 1)}"])
    axes.set_xlabel(xlabel)
    axes.locator_params(nbins=5)
    return to_svg(figure, title)


class Point(NamedTuple):
    """A score in per cent, with its interval, at a swept number."""

    x: float
    arm: str
    estimate: float
    low: float
    high: float


def bands(series: Mapping[str, Sequence[Point]], title: str, xlabel: str) -> str:
    """Score against a swept number, with a band. series: name -> points, by x."""
    figure, axes = make_figure(3.9, 2.5 + _legend_height(list(series)), title)
    for (name, points), colour in zip(series.items(), series_colours(len(series)), strict=True):
        x = [point.x for point in points]
        low, high = [point.low for point in points], [point.high for point in points]
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        (line,) = axes.plot(
            x, [p.estimate for p in points], "o-", color=colour, markersize=3.5, linewidth=1.4, label=name
        )
        tell(line, [f"{p.arm}: {_told(p.estimate, p.low, p.high)}" for p in points])
    if len(series) > 1:
        _legend(figure, list(series))
    axes.set_xlabel(xlabel)
    ticks = _apart(sorted({point.x for points in series.values() for point in points}))
    if len(ticks) <= MOST_TICKS:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    return to_svg(figure, title)


class Join(NamedTuple):
    """An arm with synthetic images beside the learning curve of real ones.

    Attributes:
        label: arms of one label have one colour.
        real: images a class that it trains on.
        score: in per cent.
        equivalent: real images a class that do as much; inf above the curve, -inf below.
        text: what its mark says.
    """

    label: str
    real: float
    score: float
    equivalent: float
    text: str


def exchange(
    points: Sequence[Point], risen: Sequence[float], joins: Sequence[Join], title: str, xlabel: str
) -> str:
    """A learning curve with its band, and arms joined to the count of real images that they are worth.

    points: of the arms of real images only, by count; `risen`: the curve at the same counts.
    """
    labels = list(dict.fromkeys(join.label for join in joins))
    figure, axes = make_figure(4.6, 2.9 + _legend_height(labels), title)
    x = [point.x for point in points]
    left, right = (
        x[0] / 1.4,
        x[-1] * 1.25,
    )  # where arms below and above the curve end; no real images stand on the left
    axes.set_xscale("log")
    axes.fill_between(x, [p.low for p in points], [p.high for p in points], color=INK, alpha=0.1, linewidth=0)
    axes.plot(x, risen, color=INK, linewidth=1.4)
    (marks,) = axes.plot(
        x, [p.estimate for p in points], "s", color=INK, markersize=4, label="real images only"
    )
    tell(marks, [f"{p.arm}: {_told(p.estimate, p.low, p.high)}" for p in points])
    colours = dict(zip(labels, series_colours(len(labels)), strict=True))
    for join in joins:
        own, end = max(join.real, left), float(np.clip(join.equivalent, left, right))
        mark = ">" if join.equivalent == np.inf else "<" if join.equivalent == -np.inf else "|"
        style: dict[str, Any] = {"color": colours[join.label], "markeredgewidth": 1.2}
        axes.plot([own, end], [join.score] * 2, ":", linewidth=1, **style)
        (point,) = axes.plot([own], [join.score], "o", markersize=4.5, **style)
        (ending,) = axes.plot([end], [join.score], mark, markersize=6, **style)
        tell(point, [join.text])
        tell(ending, [join.text])
    for label, colour in colours.items():
        axes.plot([], [], "o", color=colour, markersize=4.5, label=label)
    axes.set_xlabel(xlabel)
    ticks = {
        **({left: "0"} if any(join.real == 0 for join in joins) else {}),
        **{place: f"{place:,.4g}" for place in x},
    }
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xticks([], minor=True)
    axes.set_xlim(left / 1.05, right * 1.05)
    _legend(figure, labels)
    return to_svg(figure, title)


class Bin(NamedTuple):
    """Images of about one confidence, in per cent: mean confidence, share that is right with its interval, share of all."""

    confidence: float
    right: float
    low: float
    high: float
    share: float


def reliability(bins: Sequence[Bin], arm: str, colour: str) -> str:
    """Accuracy against confidence: a dot a bin, the larger the more images, its bar the interval; true ones lie on the line."""
    figure, axes = make_figure(2.9, 2.7, "\n".join(wrap(arm, 30)))
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1, zorder=0)
    for each in bins:
        (bar,) = axes.plot([each.confidence] * 2, [each.low, each.high], color=colour, linewidth=1, alpha=0.6)
        size = 2 + 1.6 * each.share**0.5
        (dot,) = axes.plot([each.confidence], [each.right], "o", color=colour, markersize=size)
        said = f"{arm}, confidence {_number(each.confidence)}: right {_told(each.right, each.low, each.high)}"
        for mark in (bar, dot):
            tell(mark, [f"{said}, {_number(each.share)} of the images"])
    axes.set_xlabel("Confidence, %")
    axes.set_ylabel("Right, %")
    axes.set_xlim(0, 103)
    axes.set_ylim(0, 103)
    axes.set_aspect("equal")
    return to_svg(figure, arm)


def _legend(figure: Figure, labels: Sequence[str]) -> None:
    """A legend below the axes, of one column where names are long."""
    figure.legend(frameon=False, fontsize=8, loc="outside lower left", ncols=_legend_columns(labels))


def _legend_height(labels: Sequence[str]) -> float:
    return 0.18 * (1 + len(labels) / _legend_columns(labels))  # inches


def _legend_columns(labels: Sequence[str]) -> int:
    return 1 if max(len(label) for label in labels) > LONG_LABEL else 2


def series_colours(count: int) -> Sequence[str]:
    """Colours that are told apart, or, of many, a graded scale."""
    return PALETTE[:count] if count <= len(PALETTE) else _graded(count)


def spread(names: Sequence[str], most: int = MOST_SERIES) -> list[str]:
    """The first, the last and others evenly between, where there are too many."""
    if len(names) <= most:
        return list(names)
    return [names[round(place)] for place in np.linspace(0, len(names) - 1, most)]


def _apart(ticks: Sequence[float]) -> list[float]:
    """Rising numbers without those whose labels would lie over the one before."""
    kept = list(ticks[:1])
    for tick in ticks[1:]:
        if tick - kept[-1] > NEAREST_TICKS * (ticks[-1] - ticks[0]):
            kept.append(tick)
    return kept


def _told(estimate: float, low: float, high: float, signed: bool = False) -> str:
    return f"{_number(estimate, signed)} ({_number(low, signed)} to {_number(high, signed)})"


def _number(value: float, signed: bool = False) -> str:
    return (f"{value:+.1f}" if signed else f"{value:.1f}").replace("-", "−")


def curve(table: pl.DataFrame, column: str, scale: float = 1) -> tuple[np.ndarray, np.ndarray] | None:
    """Step and scaled value where a column of curves.csv has one: float [n] each; None without the column."""
    if column not in table.columns or "step" not in table.columns:
        return None
    rows = table.select(pl.col("step", column).cast(pl.Float64)).drop_nulls().drop_nans()
    return (rows["step"].to_numpy(), scale * rows[column].to_numpy()) if rows.height else None


def _mean_curve(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds at the steps that all of them logged: early stopping must not bend it."""
    by_step = [dict(zip(x.tolist(), y.tolist(), strict=True)) for x, y in curves]
    steps = sorted(set.intersection(*(set(values) for values in by_step)))
    return np.array(steps), np.array([np.mean([values[step] for values in by_step]) for step in steps])


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MOST_POINTS points, each the mean of neighbours."""
    if len(x) <= MOST_POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), MOST_POINTS)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])
