"""How much better classifiers do on held-out synthetic images than on real validation images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from skinaug.report import statistics
from skinaug.report.collect import Predictions, Study
from skinaug.report.measure import draw
from skinaug.report.tables import Cell, Table, percent, points, table

GAP = {
    "arm": pl.String,
    "seeds": pl.Int64,
    "synthetic_images": pl.Int64,
    "validation_images": pl.Int64,
    "synthetic_top1": pl.Float64,
    "validation_top1": pl.Float64,
    "gap": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def gap_frame(study: Study, num_resamples: int, seed: int) -> pl.DataFrame:
    """One row an arm whose runs were asked about synthetic images that they had not seen: top-1 there, on real validation
    images of the same class shares, and the `gap` between them with its 95 % interval over seeds, synthetic images and
    validation patients. Image counts are the least of an arm's seeds."""
    arms = [
        arm
        for arm in study.arms
        if all(len(study.synthetic[i].images) for i, run in enumerate(study.runs) if run.arm == arm)
    ]
    if not arms:
        return pl.DataFrame(schema=GAP)
    for_synthetic, for_validation = np.random.SeedSequence(seed).generate_state(2)
    drawn = {
        "synthetic": draw(study.synthetic, num_resamples, int(for_synthetic)),
        "validation": draw(study.validation, num_resamples, int(for_validation)),
    }
    rows = []
    for arm in arms:
        places = [i for i, run in enumerate(study.runs) if run.arm == arm]
        row: dict[str, Any] = {"arm": arm, "seeds": len(places)}
        found = {}
        for name, predictions in (("synthetic", study.synthetic), ("validation", study.validation)):
            own = [predictions[i] for i in places]
            sums = [drawn[name].sums(each, _terms(each)) for each in own]
            with np.errstate(invalid="ignore"):
                found[name] = [part["right"] / part["images"] for part in drawn[name].resample(sums)]
            row[f"{name}_images"] = min(len(each.images) for each in own)
            row[f"{name}_top1"] = float(found[name][0].mean())
        gap = statistics.two_level(
            *(one - other for one, other in zip(found["synthetic"], found["validation"], strict=True))
        )
        row |= {
            "gap": float(gap.mean),
            "low": float(np.maximum(gap.low, -1)),
            "high": float(np.minimum(gap.high, 1)),
        }
        rows.append(row)
    return pl.DataFrame(rows, schema=GAP)


def _terms(predictions: Predictions) -> statistics.Sums:
    right = predictions.probabilities.argmax(1) == predictions.labels
    return {"images": np.ones(len(right)), "right": right.astype(float)}


def gap_table(frame: pl.DataFrame, arms: pl.DataFrame) -> Table | None:
    """A row an arm, beside its top-1 on test images; None where no run was asked about synthetic images.

    arms: `measure.arms_frame` of the same study.
    """
    told = frame.join(arms.select("arm", test_top1="top1"), on="arm", maintain_order="left")
    rows: Sequence[Sequence[Any]] = [_cells(row) for row in told.iter_rows(named=True)]
    header = ["Arm", "Seeds", "Synthetic, held out", "Real validation", "Gap", "Real test"]
    return table(header, rows) if rows else None


def _cells(row: Mapping[str, Any]) -> list[Any]:
    scores = [
        Cell(percent(row[f"{name}_top1"]), f"{row[f'{name}_images']:,} images")
        for name in ("synthetic", "validation")
    ]
    gap = Cell(points(row["gap"]), " to ".join(points(row[end]) for end in ("low", "high")))
    return [row["arm"], row["seeds"], *scores, gap, percent(row["test_top1"])]
