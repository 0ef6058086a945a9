"""The charts of `skinaug dashboard --local`, as ECharts takes them: arms with intervals, curves over ratios, parallel coordinates.

They write their labels on a canvas. What sweeps are called is a value in them and never a key: NiceGUI runs one that begins with a
colon.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skinaug.cli.sweeps import HIGH, LOW, Row, Sweep, value_of

MOST_AXES = 8  # of parallel coordinates
COLOURS = ["#1d5c8f", "#d1742a", "#1a7443", "#8a4f9e", "#b0342b", "#4f7f93", "#9a7d0a", "#c0508e"]
WHISKER = """(params, api) => {
  const at = [0, 1].map(i => api.coord(api.value(3) ? [api.value(1 + i), api.value(0)] : [api.value(0), api.value(1 + i)]));
  const [dx, dy] = api.value(3) ? [0, 4] : [4, 0];
  const style = {stroke: api.visual('color'), lineWidth: 1.5};
  const line = (a, b) => ({type: 'line', shape: {x1: a[0], y1: a[1], x2: b[0], y2: b[1]}, style});
  return {type: 'group', children: [line(at[0], at[1]),
    ...at.map(p => line([p[0] - dx, p[1] - dy], [p[0] + dx, p[1] + dy]))]};
}"""
TOOLTIP = {"renderMode": "richText", "confine": True}  # never as HTML


def arms_options(sweeps: Sequence[Sweep], score: str) -> tuple[dict[str, Any], int]:
    """A chart of every arm's score with its interval, a colour a sweep; and how many arms it has."""
    series: list[Row] = []
    names: list[str] = []
    told = [sweep for sweep in sweeps if any(isinstance(arm.get(score), float) for arm in sweep.arms)]
    for number, sweep in enumerate(told):
        points, intervals = [], []
        for arm in sweep.arms:
            values = [arm.get(name) for name in (score, score + LOW, score + HIGH)]
            if isinstance(values[0], float):
                points.append([values[0], len(names)])
                if None not in values:
                    intervals.append([len(names), values[1], values[2], 1])
                names.append(str(arm.get("arm")))
        series += _with_intervals(sweep.name, "scatter", points, intervals, COLOURS[number % len(COLOURS)])
    options = {
        "animation": False,
        "tooltip": TOOLTIP,
        "legend": {"type": "scroll", "top": 0},
        "grid": {"left": 8, "right": 16, "top": 36, "bottom": 28, "containLabel": True},
        "xAxis": {"type": "value", "scale": True, "name": score, "nameLocation": "middle", "nameGap": 26},
        "yAxis": {
            "type": "category",
            "data": names,
            "inverse": True,
            "axisLabel": {"width": 130, "overflow": "truncate"},
        },
        "series": series,
    }
    return options, len(names)


def curves_options(found: dict[str, list[tuple[float, float, float, float]]], score: str) -> dict[str, Any]:
    """A chart of scores against ratios with intervals."""
    series: list[Row] = []
    for number, (name, points) in enumerate(found.items()):
        intervals = [[ratio, low, high, 0] for ratio, _, low, high in points]
        values = [[ratio, value] for ratio, value, _, _ in points]
        series += _with_intervals(name, "line", values, intervals, COLOURS[number % len(COLOURS)])
    return {
        "animation": False,
        "tooltip": TOOLTIP,
        "legend": {"type": "scroll", "top": 0},
        "grid": {"left": 8, "right": 16, "top": 48, "bottom": 28, "containLabel": True},
        "xAxis": {
            "type": "value",
            "name": "synthetic images to a real one",
            "nameLocation": "middle",
            "nameGap": 26,
        },
        "yAxis": {"type": "value", "scale": True, "name": score, "nameTextStyle": {"align": "left"}},
        "series": series,
    }


def _with_intervals(name: str, kind: str, points: Any, intervals: Any, colour: str) -> list[Row]:
    return [
        {"name": name, "type": kind, "data": points, "symbol": "circle", "symbolSize": 8, "color": colour},
        {
            "name": name,
            "type": "custom",
            ":renderItem": WHISKER,
            "data": intervals,
            "color": colour,
            "encode": {"x": [1, 2], "y": 0} if kind == "scatter" else {"x": 0, "y": [1, 2]},
            "silent": True,
        },
    ]


def parallel_axes(rows: Sequence[Row], keys: Sequence[str], score: str, by: str) -> list[Row]:
    """Axes of what runs differ in: what they are grouped by, the first settings, and the score last."""
    first_with: dict[
        tuple[int, ...], str
    ] = {}  # settings that divide the runs as an earlier one does say nothing new
    for name in dict.fromkeys([by, *keys]):
        numbered: dict[str, int] = {}
        first_with.setdefault(
            tuple(numbered.setdefault(str(row.get(name)), len(numbered)) for row in rows), name
        )
    axes: list[Row] = []
    for name in [*list(first_with.values())[: MOST_AXES - 1], score]:
        values = [row.get(name) for row in rows if row.get(name) is not None]
        numbers = [value_of(value) for value in values]
        if not values:
            continue
        if all(isinstance(number, float) for number in numbers):
            axes.append({"name": name, "type": "value", "scale": True})
        else:
            axes.append({"name": name, "type": "category", "data": list(dict.fromkeys(map(str, values)))})
    return axes


def parallel_options(groups: dict[str, list[Row]], axes: Sequence[Row]) -> dict[str, Any]:
    """ECharts' parallel coordinates, a series a group. A run without a value has a gap there."""

    def value(row: Row, axis: Row) -> Any:
        found = row.get(axis["name"])
        return "-" if found is None else str(found) if axis["type"] == "category" else value_of(found)

    return {
        "animation": False,
        "tooltip": TOOLTIP,
        "legend": {"type": "scroll", "top": 0},
        "parallel": {"left": 60, "right": 70, "top": 76, "bottom": 24},
        "parallelAxis": [
            {
                **axis,
                "dim": number,
                "nameTextStyle": {"width": 110, "overflow": "truncate"},
                "axisLabel": {"width": 80, "overflow": "truncate"},
            }
            for number, axis in enumerate(axes)
        ],
        "series": [
            {
                "name": name,
                "type": "parallel",
                "lineStyle": {"width": 1.5, "opacity": 0.6, "color": COLOURS[number % len(COLOURS)]},
                "color": COLOURS[number % len(COLOURS)],
                "data": [[value(row, axis) for axis in axes] for row in found],
            }
            for number, (name, found) in enumerate(groups.items())
        ],
    }
