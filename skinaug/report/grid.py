"""Scores over a grid of real and synthetic images a class, as tables whose cells are coloured by the score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from skinaug.report import collect, exchange, swept
from skinaug.report.collect import Run, Study
from skinaug.report.tables import Cell, Table, number, percent, table

COUNTS = (*exchange.COUNTS, "real_ratio", "real_per_class", "real_limit")  # of a mix, that a grid varies
LOOKS = (
    "name",
    "preview",
    "report",
    "logger",
    "review",
    "controls",
)  # parts of the config that change no figure
FILLED = 0.5  # share of a grid's cells that must be known
Arms = Mapping[tuple[float, float], str]  # by real and synthetic images a class


@dataclass(frozen=True)
class Heatmap:
    """A grid of one score.

    Attributes:
        name: what tells the grid from others of the sweep; empty where there is one.
        low, high: in per cent, of the palest and the darkest cell of all grids.
    """

    name: str
    table: Table
    low: str
    high: str


def heatmaps(study: Study, arms: pl.DataFrame, metric: str) -> list[Heatmap]:
    """The score of every grid that the arms form, all in one scale of colour; none where they form no grid."""
    scores = {row["arm"]: row for row in arms.iter_rows(named=True)}
    found = grids(study)
    values = [scores[arm][metric] for cells in found.values() for arm in cells.values()]
    return [_heatmap(name, cells, scores, metric, min(values), max(values)) for name, cells in found.items()]


def grids(study: Study) -> dict[str, Arms]:
    """Arms that differ in nothing but the number of images, where they form a grid, by what tells the grids apart.

    Arms without synthetic images belong to every grid of their data set, backbone and training. A grid has two counts of
    real and two of synthetic images with two cells or more each, and half of its cells or more are known.
    """
    counts = exchange.counts(study)
    first = {arm: study.of(arm)[0] for arm in study.arms}
    groups: dict[str, dict[tuple[float, float], str]] = {}
    for arm, (_, synthetic) in counts.items():
        if synthetic > 0:
            groups.setdefault(_alike(first[arm]), {})[counts[arm]] = arm
    alone = [arm for arm in study.arms if counts[arm][1] == 0 and not exchange.control(first[arm])]
    found = []
    for cells in groups.values():
        settings = exchange.settings(first[next(iter(cells.values()))])
        real = {counts[arm]: arm for arm in alone if exchange.settings(first[arm]) == settings}
        if _is_grid({**real, **cells}):
            found.append({**real, **cells})
    names = _names([[first[arm] for cell, arm in cells.items() if cell[1]] for cells in found])
    return dict(zip(names, found, strict=True))


def _alike(run: Run) -> str:
    """What the arms of one grid share: all that makes their training images and classifiers, but numbers of images and seeds."""
    mix = {name: value for name, value in exchange.mix(run).items() if name not in COUNTS}
    made = {name: value for name, value in run.config.items() if name not in LOOKS}
    return repr(exchange.without_seed({**made, "mix": mix}))


def _is_grid(cells: Arms) -> bool:
    reals, synthetics = ([cell[i] for cell in cells] for i in (0, 1))
    several = all(sum(values.count(value) > 1 for value in set(values)) > 1 for values in (reals, synthetics))
    return several and len(cells) >= FILLED * len(set(reals)) * len(set(synthetics))


def _names(grids: list[list[Run]]) -> list[str]:
    if len(grids) == 1:
        return [""]
    keys = [
        key for key in collect.varying([run for runs in grids for run in runs]) if not _counts_images(key)
    ]
    names = []
    for runs in grids:
        own = runs[0].overrides
        names.append(", ".join(swept.setting(key, own[key]) for key in keys if key in own))
    return [name if names.count(name) == 1 else f"{name} ({i + 1})".strip() for i, name in enumerate(names)]


def _counts_images(key: str) -> bool:
    return key == "mix" or key.removeprefix("mix.") in COUNTS


def _heatmap(
    name: str, cells: Arms, scores: Mapping[str, Mapping[str, float]], metric: str, low: float, high: float
) -> Heatmap:
    real, synthetic = (sorted({cell[i] for cell in cells}) for i in (0, 1))
    turned = len(real) > len(synthetic)  # the shorter side goes across

    def shown(place: tuple[float, float]) -> Cell:
        if place not in cells:
            return Cell("–")
        row = scores[cells[place]]
        interval = f"{percent(row[f'{metric}_low'])}–{percent(row[f'{metric}_high'])}"
        return Cell(percent(row[metric]), interval, (row[metric] - low) / (high - low) if high > low else 0.0)

    down, across = (real, synthetic) if turned else (synthetic, real)
    rows = [[_count(i), *(shown((i, j) if turned else (j, i)) for j in across)] for i in down]
    over, beside = ("Synthetic / class", "Real / class") if turned else ("Real / class", "Synthetic / class")
    heated = table([beside, *(_count(count) for count in across)], rows)
    return Heatmap(name, replace(heated, groups=[("", 1), (over, len(across))]), percent(low), percent(high))


def _count(count: float) -> str:
    """Images a class: the mean of unequal classes with one decimal."""
    return number(round(count) if count == round(count) else round(count, 1))
