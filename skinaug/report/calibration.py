"""How far an arm's probabilities can be trusted: calibration, errors left when unsure images are put aside, and each class
against the rest at thresholds from validation images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from skinaug.metrics import calibration
from skinaug.metrics.operating_points import verdict_terms, youden_thresholds
from skinaug.progress import shown
from skinaug.report import folds, plots, statistics
from skinaug.report.collect import Predictions, Study
from skinaug.report.measure import Draws, known_variance, share_interval
from skinaug.report.statistics import Sums
from skinaug.report.tables import Cell, Table, percent, points, table

SCORES = {  # name -> heading and range
    "ece": ("Calibration error", (0, 1)),
    "overconfidence": ("Confidence less accuracy", (-1, 1)),
    "brier": ("Brier score", (0, 2)),
    "aurc": ("AURC", (0, 1)),
}
RATES = {"sensitivity": "positive", "specificity": "negative"}  # each with the images that it is a share of
LEAST_IMAGES = 10  # of a bin that a reliability diagram shows, and of the surest that a risk is told of


def calibration_terms(predictions: Predictions) -> Sums:
    """What each image adds to the sums that `calibration_scores` needs: [N], and `gaps` [N, 15]."""
    p, labels = predictions.probabilities, predictions.labels
    confidence, right = calibration.confidences(p, labels)
    return {
        "images": np.ones(len(labels)),
        "gaps": (confidence - right)[:, None] * calibration.confidence_bins(confidence),
        "brier": calibration.brier_terms(p, labels),
        "aurc": calibration.aurc_terms(confidence, right),
    }


def calibration_scores(sums: Sums) -> dict[str, np.ndarray]:
    """Calibration error, mean confidence less accuracy, Brier score and AURC, from sums over any leading shape [...]."""
    images = sums["images"]
    return {
        "ece": np.abs(sums["gaps"]).sum(-1) / images,
        "overconfidence": sums["gaps"].sum(-1) / images,
        "brier": sums["brier"] / images,
        "aurc": sums["aurc"] / images,
    }


def calibration_frame(study: Study, draws: Draws) -> pl.DataFrame:
    """One row an arm: `ece`, `overconfidence`, `brier` and `aurc`, each with low and high (95 %, over seeds and test
    patients), and `ece_chance`, the calibration error of true probabilities on as many images."""
    rows = []
    for arm in shown(study.arms, "calibration"):
        runs = [predictions for _, predictions in _of(study, arm)]
        sums = [draws.sums(predictions, calibration_terms(predictions)) for predictions in runs]
        on_test, on_drawn = (calibration_scores(found) for found in draws.resample(sums))
        row: dict[str, Any] = {"arm": arm, "baseline": arm == study.baseline, "seeds": len(runs)}
        for name, (_, limits) in SCORES.items():
            found = statistics.two_level(on_test[name], on_drawn[name])
            row[name] = float(found.mean)
            row |= {
                f"{name}_low": float(np.clip(found.low, *limits)),
                f"{name}_high": float(np.clip(found.high, *limits)),
            }
        row["ece_chance"] = float(np.mean([calibration.chance_ece(p.probabilities) for p in runs]))
        rows.append(row)
    return pl.DataFrame(rows)


def calibration_table(frame: pl.DataFrame) -> Table:
    """A row an arm; per cent and points, the Brier score as it is."""
    rows = [_calibration_cells(row) for row in frame.iter_rows(named=True)]
    headings = [heading for heading, _ in SCORES.values()]
    return table(["Arm", headings[0], "By chance alone", *headings[1:]], rows)


def _calibration_cells(row: Mapping[str, Any]) -> list[Any]:
    def bounds(name: str, text: Any, to: str) -> Cell:
        return Cell(text(row[name]), to.join(text(row[f"{name}_{end}"]) for end in ("low", "high")))

    return [
        Cell(row["arm"], "baseline" if row["baseline"] else ""),
        bounds("ece", percent, "–"),
        percent(row["ece_chance"]),
        bounds("overconfidence", points, " to "),
        bounds("brier", "{:.3f}".format, "–"),
        bounds("aurc", percent, "–"),
    ]


OPERATING_POINTS = {
    "arm": pl.String,
    "label": pl.String,
    "seeds": pl.Int64,
    "threshold": pl.Float64,
    "validation_images": pl.Int64,
    "validation_sensitivity": pl.Float64,
    "validation_specificity": pl.Float64,
    "test_images": pl.Int64,
    "sensitivity": pl.Float64,
    "sensitivity_low": pl.Float64,
    "sensitivity_high": pl.Float64,
    "specificity": pl.Float64,
    "specificity_low": pl.Float64,
    "specificity_high": pl.Float64,
}


def operating_points_frame(study: Study, draws: Draws) -> pl.DataFrame:
    """One row an arm and class: sensitivity and specificity on test images, one class against the rest, with low and high.

    Each run has its own `threshold` (told as the mean over seeds), the one with the largest Youden index on its validation
    images; what it reached there is told beside it. Intervals hold for these thresholds: the chance of which patients were
    in validation is not in them. Null where validation or test has no image of a class; no rows where a run has no validation
    images.
    """
    rows = []
    for arm in study.arms if study.validated else ():
        thresholds, promised, sums = [], [], []
        for i, predictions in _of(study, arm):
            judged = []
            for test, val in folds.pairs(predictions, study.validation[i]):
                chosen = youden_thresholds(val.probabilities, val.labels)
                thresholds.append(chosen)
                promised.append(
                    _rates(statistics.total(verdict_terms(val.probabilities, val.labels, chosen)))
                )
                judged.append(verdict_terms(test.probabilities, test.labels, chosen))
            terms = {name: np.concatenate([one[name] for one in judged]) for name in judged[0]}
            sums.append(draws.sums(predictions, terms))
        on_test, on_drawn = (_rates(found) for found in draws.resample(sums))
        row: dict[str, Any] = {"threshold": np.mean(thresholds, 0)}
        for name, scores in on_test.items():
            row[f"validation_{name}"] = np.mean([rates[name] for rates in promised], 0)
            patients = (sums[0][RATES[name]] > 0).sum(0)
            found = share_interval(scores.mean(0), known_variance(scores, on_drawn[name]), patients)
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        last, test = _of(study, arm)[-1]
        for c, label in enumerate(study.classes):
            counts = {
                "validation_images": folds.distinct_images(study.validation[last], c),
                "test_images": folds.distinct_images(test, c),
            }
            figures = {
                name: None if np.isnan(values[c]) else float(values[c]) for name, values in row.items()
            }
            rows.append({"arm": arm, "label": label, "seeds": len(sums), **counts, **figures})
    return pl.DataFrame(rows, schema=OPERATING_POINTS)


def _rates(sums: Sums) -> dict[str, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "sensitivity": sums["found"] / sums["positive"],
            "specificity": sums["cleared"] / sums["negative"],
        }


def operating_points_table(frame: pl.DataFrame, arms: Sequence[str]) -> Table:
    """Threshold, sensitivity and specificity of each class for some arms, a row each, in per cent."""
    rows = []
    for (label,), part in frame.group_by("label", maintain_order=True):
        by_arm = {row["arm"]: row for row in part.iter_rows(named=True)}
        for arm in arms:
            rates = [_rate(by_arm[arm], name) for name in RATES]
            threshold = Cell(percent(by_arm[arm]["threshold"]))
            size = f"{by_arm[arm]['test_images']:,} test images"
            rows.append([Cell(str(label), size), arm, threshold, *rates])
    return table(["Class", "Arm", "Threshold", "Sensitivity", "Specificity"], rows, words=2)


def _rate(row: Mapping[str, Any], name: str) -> Cell:
    if row[name] is None:
        return Cell("–")
    return Cell(percent(row[name]), "–".join(percent(row[f"{name}_{end}"]) for end in ("low", "high")))


def reliability(study: Study, draws: Draws, arm: str) -> list[plots.Bin]:
    """Bins of an arm's confidences that have 10 images or more at every seed: means over seeds, in per cent."""
    sums = []
    for _, predictions in _of(study, arm):
        confidence, right = calibration.confidences(predictions.probabilities, predictions.labels)
        bins = calibration.confidence_bins(confidence).astype(float)
        terms = {"images": bins, "confidence": bins * confidence[:, None], "right": bins * right[:, None]}
        sums.append(draws.sums(predictions, terms))
    on_test, on_drawn = draws.resample(sums)
    enough = (on_test["images"] >= LEAST_IMAGES).all(0)
    images = on_test["images"][:, enough]
    with np.errstate(invalid="ignore"):
        resampled = on_drawn["right"][..., enough] / on_drawn["images"][..., enough]
    right = on_test["right"][:, enough] / images
    patients = (sums[0]["images"][:, enough] > 0).sum(0)
    found = share_interval(right.mean(0), known_variance(right, resampled), patients)
    confidence = (on_test["confidence"][:, enough] / images).mean(0)
    share = (images / on_test["images"].sum(1, keepdims=True)).mean(0)
    columns = (confidence, found.mean, found.low, found.high, share)
    return [plots.Bin(*(100 * float(value) for value in values)) for values in zip(*columns, strict=True)]


def risks(study: Study, arm: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Share of images answered and share of errors among them, both in per cent, by an arm's seeds: float [n] each.

    Where fewer than 10 images are answered, one error more or less is too much to tell anything.
    """
    found = {}
    for i, predictions in _of(study, arm):
        confidence, right = calibration.confidences(predictions.probabilities, predictions.labels)
        coverage, risk = calibration.risk_coverage(confidence, right)
        told = slice(LEAST_IMAGES - 1, None)
        found[study.runs[i].seed] = (100 * coverage[told], 100 * risk[told])
    return found


def calibration_figures(study: Study, draws: Draws, arms: Sequence[str]) -> list[str]:
    """A reliability diagram of each of some arms, the baseline among them, and their risk-coverage curves."""
    colours = plots.arm_colours(arms, study.baseline)
    diagrams = [plots.reliability(reliability(study, draws, arm), arm, colours[arm]) for arm in arms]
    curves = {arm: risks(study, arm) for arm in arms}
    return [
        *diagrams,
        plots.lines(curves, colours, "Errors among images answered, %", "Images answered, %"),
    ]


def _of(study: Study, arm: str) -> list[tuple[int, Predictions]]:
    """An arm's predictions, by seed, each with its place among the study's runs."""
    places: Iterator[int] = (i for i, run in enumerate(study.runs) if run.arm == arm)
    ordered = sorted(places, key=lambda i: study.runs[i].seed)
    return [(i, study.predictions[i]) for i in ordered]
