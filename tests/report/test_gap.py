"""The gap of a drawn sweep against plain counting and against a t test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from skinaug.report import collect, gap, measure
from skinaug.report.collect import Study


@pytest.fixture
def study(make_sweep: Callable[..., Path]) -> Study:
    """Arms with synthetic images were asked about others: 30 at each seed, of which they name nine in ten correctly."""
    runs = collect.read_runs(make_sweep(seeds=5))
    rng = np.random.default_rng(0)
    for run in runs:
        if run.arm in ("hybrid", "synthetic"):
            file = run.artifacts["classify"] / "predictions.parquet"
            table = pl.read_parquet(file)
            classes = [name.removeprefix("p:") for name in table.columns if name.startswith("p:")]
            labels = np.tile(np.arange(6), 5)
            right = rng.uniform(size=30) < 0.9
            p = np.eye(6)[np.where(right, labels, (labels + 1) % 6)]
            names = [f"synthetic_{run.seed + i}" for i in range(30)]
            rows = pl.DataFrame({"image_id": names, "group_id": names, "split": "synthetic"}).with_columns(
                label=pl.Series([classes[label] for label in labels]),
                prediction=pl.Series([classes[c] for c in p.argmax(1)]),
                **{f"p:{name}": pl.Series(p[:, c]) for c, name in enumerate(classes)},
            )
            pl.concat([table, rows.select(table.columns)]).write_parquet(file)
    return collect.make_study(runs)


def test_the_gap_equals_plain_counting(study: Study):
    frame = gap.gap_frame(study, 300, 0)
    assert frame["arm"].to_list() == ["hybrid", "synthetic"]
    for row in frame.iter_rows(named=True):
        top1: dict[str, list[float]] = {"synthetic": [], "val": []}
        for run in study.of(row["arm"]):
            table = pl.read_parquet(run.artifacts["classify"] / "predictions.parquet")
            for split, found in top1.items():
                part = table.filter(pl.col("split") == split)
                found.append(float((part["label"] == part["prediction"]).to_numpy().mean()))
        assert row["synthetic_top1"] == pytest.approx(np.mean(top1["synthetic"]))
        assert row["validation_top1"] == pytest.approx(np.mean(top1["val"]))
        assert row["gap"] == pytest.approx(row["synthetic_top1"] - row["validation_top1"])
        assert (row["synthetic_images"], row["validation_images"]) == (30, 36)
        assert row["low"] < row["gap"] < row["high"]
        spread = np.std(np.subtract(top1["synthetic"], top1["val"]), ddof=1) / np.sqrt(5)
        assert row["high"] - row["low"] > 2 * 2.776 * spread  # wider than the t interval over seeds alone
    arms = measure.arms_frame(study, measure.measure(study, 50, 0))
    shown = gap.gap_table(frame, arms)
    assert shown is not None
    assert [row[0].text for row in shown.rows] == ["hybrid", "synthetic"]
    assert {len(row) for row in shown.rows} == {len(shown.header)}


def test_runs_that_were_asked_about_real_images_alone_have_no_gap(make_sweep: Callable[..., Path]):
    study = collect.make_study(collect.read_runs(make_sweep()))
    frame = gap.gap_frame(study, 50, 0)
    assert frame.height == 0
    assert gap.gap_table(frame, measure.arms_frame(study, measure.measure(study, 50, 0))) is None
