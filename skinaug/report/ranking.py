"""How well arms rank each class above the rest: AUROC, the area under the precision-recall curve, and the partial AUROC above 80 %
sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from skinaug.metrics.ranking import LEAST_SENSITIVITY, partial_placements, precision_terms
from skinaug.report import folds, paired
from skinaug.report.collect import Predictions, Study
from skinaug.report.measure import Draws
from skinaug.report.paired import Found
from skinaug.report.statistics import Sums, placements
from skinaug.report.tables import Cell, Table, percent, points, table, thousandths

METRICS = {  # name -> heading and most
    "auroc": ("AUROC", 1.0),
    "auprc": ("AUPRC", 1.0),
    "pauc": ("Partial AUROC", 1 - LEAST_SENSITIVITY),
}
MACRO = "macro"  # the mean over classes, in the place of a class


def ranking_frame(study: Study, draws: Draws) -> pl.DataFrame:
    """One row an arm, class and metric: `auroc`, `auprc` (average precision) and `pauc`, the area under the ROC curve above 80 %
    sensitivity, in 0 to 0.2, one class against the rest; the label MACRO is the mean over classes that have a positive and a
    negative. `images` of the class; further as `paired.compared`: the macro means of all arms are a family of each metric, and so
    are the classes of all arms."""
    labels = [MACRO, *study.classes]
    keys = pl.DataFrame(
        [
            {
                "label": label,
                "metric": metric,
                "family": f"{metric} {label == MACRO}",
                "least": 0.0,
                "most": most,
            }
            for label in labels
            for metric, (_, most) in METRICS.items()
        ]
    )

    def find(arm: str) -> Found:
        return paired.found(
            study,
            draws,
            arm,
            lambda _, own: folds.joined(map(ranking_terms, folds.split(own))),
            ranking_scores,
        )

    first = study.predictions[0].labels
    counts = {label: int((first == c).sum()) for c, label in enumerate(study.classes)} | {MACRO: len(first)}
    images = pl.DataFrame({"label": list(counts), "images": list(counts.values())})
    return paired.compared(study, find, keys.join(images, on="label", how="left", maintain_order="left"))


def ranking_terms(predictions: Predictions) -> Sums:
    """What each image adds to the sums that `ranking_scores` needs: [N, C] each."""
    p, classes = predictions.probabilities, np.arange(len(predictions.classes))
    positive = predictions.labels[:, None] == classes
    above, below = zip(*(placements(p[:, c], positive[:, c]) for c in classes), strict=True)
    part_above, part_below = zip(*(partial_placements(p[:, c], positive[:, c]) for c in classes), strict=True)
    return {
        "positive": positive.astype(float),
        "negative": (~positive).astype(float),
        "above": np.stack(above, 1),
        "below": np.stack(below, 1),
        "precision": np.stack([precision_terms(p[:, c], positive[:, c]) for c in classes], 1),
        "part_above": np.stack(part_above, 1),
        "part_below": np.stack(part_below, 1),
    }


def ranking_scores(sums: Sums) -> np.ndarray:
    """Metrics of the macro mean, then of each class: [..., (1 + C) * 3]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        defined = np.where(sums["negative"] > 0, 1.0, np.nan)
        by_class = np.stack(
            [
                sums["above"] / sums["positive"] + sums["below"] / sums["negative"],
                np.clip(sums["precision"] / sums["positive"], 0, 1) * defined,
                sums["part_above"] / sums["positive"] + sums["part_below"] / sums["negative"],
            ],
            -1,
        )
        known = np.isfinite(by_class)
        macro = np.where(known, by_class, 0).sum(-2, keepdims=True) / known.sum(-2, keepdims=True)
    both = np.concatenate([macro, by_class], -2)
    return both.reshape(*both.shape[:-2], -1)


def macro_table(frame: pl.DataFrame) -> Table:
    """Macro means of all arms beside their differences to the baseline."""
    rows = []
    for (arm,), part in frame.filter(pl.col("label") == MACRO).group_by("arm", maintain_order=True):
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        own = by_metric["auprc"]
        cells: list[Any] = [
            cell
            for name in ("auprc", "pauc")
            for cell in (_score(by_metric[name]), _difference(by_metric[name]))
        ]
        rows.append([Cell(str(arm), "baseline" if arm == own["baseline"] else ""), own["verdict"], *cells])
    header = ["Arm", "Verdict by AUPRC", "AUPRC", "Difference", "Partial AUROC", "Difference"]
    return table(header, rows, words=2)


def classes_table(frame: pl.DataFrame, arms: Sequence[str]) -> Table:
    """All three of each class for some arms, a row each."""
    rows = []
    for (label,), part in frame.filter(pl.col("label") != MACRO).group_by("label", maintain_order=True):
        by_arm = {(row["arm"], row["metric"]): row for row in part.iter_rows(named=True)}
        size = f"{part['images'][0]:,} test images"
        rows += [
            [Cell(str(label), size), arm, *(_score(by_arm[arm, metric]) for metric in METRICS)]
            for arm in arms
        ]
    return table(["Class", "Arm", *(heading for heading, _ in METRICS.values())], rows, words=2)


def _score(row: Mapping[str, Any]) -> Cell:
    if row["value"] is None:
        return Cell("–")
    words = "{:.3f}".format if row["metric"] == "pauc" else percent
    return Cell(words(row["value"]), "–".join(words(row[end]) for end in ("low", "high")))


def _difference(row: Mapping[str, Any]) -> Cell:
    if row["difference"] is None:
        return Cell("–")
    words = thousandths if row["metric"] == "pauc" else points
    bounds = [row[f"difference_{end}_adjusted"] for end in ("low", "high")]
    return Cell(words(row["difference"]), " to ".join(map(words, bounds)))
