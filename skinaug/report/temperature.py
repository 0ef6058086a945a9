"""What temperature scaling on validation images does to how far probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from skinaug.metrics.calibration import log_loss_terms, temperature, tempered
from skinaug.report import folds, statistics
from skinaug.report.calibration import SCORES, calibration_scores, calibration_terms
from skinaug.report.collect import Predictions, Study
from skinaug.report.measure import Draws
from skinaug.report.statistics import Pair, Sums
from skinaug.report.tables import Cell, Table, percent, points, table, thousandths

ALL_SCORES = {**SCORES, "log_loss": ("Log loss", (0, np.inf))}
SHOWN = {
    name: ALL_SCORES[name][0] for name in ("ece", "overconfidence", "brier", "log_loss")
}  # AURC hardly moves
NUMBERS = ("temperature", "temperature_min", "temperature_max")
ENDS = ("", "_low", "_high", "_change", "_change_low", "_change_high")
TEMPERATURE = {
    "arm": pl.String,
    "baseline": pl.Boolean,
    "seeds": pl.Int64,
    **dict.fromkeys((*NUMBERS, *(name + end for name in ALL_SCORES for end in ENDS)), pl.Float64),
}


def temperature_frame(study: Study, draws: Draws) -> pl.DataFrame:
    """One row an arm: the `temperature` that makes each classifier's validation images most likely (mean, least and most over seeds and folds), and
    `ece`, `overconfidence`, `brier`, `aurc` and `log_loss` (nats) of test images at that temperature, each with low and high, and
    with the `change` from the probabilities as they are, paired by image and seed. Intervals of 95 % over seeds and test patients;
    the chance of which patients were in validation is not in them."""
    rows = []
    for arm in study.arms:
        places = sorted(
            (i for i, run in enumerate(study.runs) if run.arm == arm), key=lambda i: study.runs[i].seed
        )
        plain = [study.predictions[i] for i in places]
        scaled, by = [], []
        for i, whole in zip(places, plain, strict=True):
            judged = list(folds.pairs(whole, study.validation[i]))
            own_by = [temperature(val.probabilities, val.labels) for _, val in judged]
            parts = [tempered(part.probabilities, t) for (part, _), t in zip(judged, own_by, strict=True)]
            probabilities = np.empty_like(whole.probabilities)
            probabilities[folds.order(whole)] = np.concatenate(parts)
            scaled.append(replace(whole, probabilities=probabilities))
            by += own_by
        before, after = _scores(draws, plain), _scores(draws, scaled)
        row: dict[str, Any] = {"arm": arm, "baseline": arm == study.baseline, "seeds": len(places)}
        row |= dict(zip(NUMBERS, (float(np.mean(by)), min(by), max(by)), strict=True))
        for name, (_, limits) in ALL_SCORES.items():
            own = statistics.two_level(*after[name])
            pairs = zip(after[name], before[name], strict=True)
            change = statistics.two_level(*(one - other for one, other in pairs))
            ends = (own.mean, np.clip(own.low, *limits), np.clip(own.high, *limits))
            numbers = (*ends, change.mean, change.low, change.high)
            row |= {name + end: float(value) for end, value in zip(ENDS, numbers, strict=True)}
        rows.append(row)
    return pl.DataFrame(rows, schema=TEMPERATURE)


def _scores(draws: Draws, runs: list[Predictions]) -> dict[str, Pair]:
    on_test, on_drawn = draws.resample([draws.sums(own, _terms(own)) for own in runs])
    test, drawn = (
        {**calibration_scores(s), "log_loss": s["log_loss"] / s["images"]} for s in (on_test, on_drawn)
    )
    return {name: (test[name], drawn[name]) for name in ALL_SCORES}


def _terms(own: Predictions) -> Sums:
    return {**calibration_terms(own), "log_loss": log_loss_terms(own.probabilities, own.labels)}


def temperature_table(frame: pl.DataFrame) -> Table:
    """A row an arm: temperature, and scores after scaling with what that changes."""
    rows = [_cells(row) for row in frame.iter_rows(named=True)]
    headings = [words for heading in SHOWN.values() for words in (heading, "Change")]
    return table(["Arm", "Temperature", *headings], rows)


def _cells(row: Mapping[str, Any]) -> list[Any]:
    least, most = (f"{row[f'temperature_{end}']:.2f}" for end in ("min", "max"))
    cells: list[Any] = [
        Cell(row["arm"], "baseline" if row["baseline"] else ""),
        Cell(f"{row['temperature']:.2f}", f"{least}–{most}"),
    ]
    for name in SHOWN:
        plain = name in ("brier", "log_loss")
        value = "{:.3f}".format if plain else points if name == "overconfidence" else percent
        signed = thousandths if plain else points
        to = " to " if name == "overconfidence" else "–"
        cells.append(Cell(value(row[name]), to.join(value(row[f"{name}{end}"]) for end in ("_low", "_high"))))
        ends = (row[f"{name}_change{end}"] for end in ("_low", "_high"))
        cells.append(Cell(signed(row[f"{name}_change"]), " to ".join(map(signed, ends))))
    return cells
