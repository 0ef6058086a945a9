"""Figures as inline SVG: text stays text, widths suit a phone, colours suit colour-blind readers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:  # matplotlib takes a second to import: only when something is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#222222", "#bbbbbb"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1")  # Okabe and Ito 2008
MOST_POINTS = 60  # of one curve; more would only make the file larger
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in an arm's name is a $
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}


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


def dots(
    rows: Sequence[tuple[str, float, float, float, Sequence[float]]],
    colours: Mapping[str, str],
    title: str,
    zero: bool = False,
) -> str:
    """One line an arm: estimate, 95 % interval and below it the seeds; with `zero`, a line of no difference.

    rows: (arm, estimate, low, high, one value a seed), in per cent or points, top to bottom.
    """
    longest = max(len(row[0]) for row in rows)
    figure, axes = _figure(min(max(3.9, 2.7 + 0.08 * longest), 5.5), 0.75 + 0.3 * len(rows), title)
    for y, (arm, estimate, low, high, seeds) in enumerate(rows):
        colour = colours[arm]
        axes.plot([low, high], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
        axes.plot([estimate], [y], "s", color=colour, markersize=5)
        axes.plot(
            seeds, [y + 0.28] * len(seeds), "o", color=colour, markersize=3, alpha=0.7, markeredgewidth=0
        )
    if zero:
        axes.axvline(0, color=INK, linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return _svg(figure, title)


def lines(
    arms: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    colours: Mapping[str, str],
    title: str,
    xlabel: str = "Optimizer step",
) -> str:
    """Curves of each arm: seeds as thin lines, their mean as a thick one. arms: name -> (x [n], y [n]) of each seed."""
    figure, axes = _figure(3.3, 2.3, title)
    for arm, curves in arms.items():
        for x, y in curves:
            axes.plot(*_thin(x, y), color=colours[arm], linewidth=0.5, alpha=0.5)
        axes.plot(*_thin(*_mean_curve(curves)), color=colours[arm], linewidth=1.7)
    axes.set_xlabel(xlabel)
    axes.locator_params(nbins=5)
    return _svg(figure, title)


def bands(
    series: Mapping[str, Sequence[tuple[float, float, float, float]]],
    title: str,
    xlabel: str,
) -> str:
    """Score against a swept number, with a band. series: name -> (x, estimate, low, high), by x."""
    figure, axes = _figure(3.9, 2.6, title)
    for (name, values), colour in zip(series.items(), (*PALETTE, *_graded(len(series))), strict=False):
        x, estimate, low, high = np.array(values).T
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, estimate, "o-", color=colour, markersize=3.5, linewidth=1.4, label=name)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel(xlabel)
    ticks = sorted({row[0] for values in series.values() for row in values})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    return _svg(figure, title)


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


def _figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """A figure of a size in inches with one pair of axes in the house style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)
    return figure, axes


def _svg(figure: Figure, title: str) -> str:
    """An <svg> element without names that could clash with those of another figure on the page."""
    import matplotlib

    buffer: Any = StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])
    width = figure.get_figwidth() * 96  # CSS pixels to the inch
    return re.sub(r'<svg height="[^"]*" ', "<svg ", _resize(svg, width)).strip()


def _resize(svg: str, width: float) -> str:
    """Let the page scale the picture down, never up."""
    head, body = svg.split(">", 1)
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head)
    return f'{head} role="img" style="width: 100%; max-width: {width:.0f}px">{body}'
