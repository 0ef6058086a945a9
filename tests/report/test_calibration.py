"""Calibration and operating points of a drawn sweep against scikit-learn and torchmetrics, and intervals by simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import brier_score_loss, confusion_matrix, roc_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from skinaug.metrics import calibration as metrics
from skinaug.report import calibration, collect, measure, plots, statistics
from skinaug.report.collect import Study


@pytest.fixture
def study(make_sweep: Callable[..., Path]) -> Study:
    return collect.make_study(collect.read_runs(make_sweep()))


def runs(study: Study, arm: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Probabilities and labels on test and on validation images, straight from the files."""
    found = []
    for run in study.of(arm):
        table = pl.read_parquet(run.artifacts["classify"] / "predictions.parquet")
        for split in ("test", "val"):
            part = table.filter(pl.col("split") == split)
            labels = np.array([study.classes.index(label) for label in part["label"]])
            found += [part.select(pl.col("^p:.*$")).to_numpy(), labels]
    return list(zip(*(found[i::4] for i in range(4)), strict=True))


def test_scores_are_means_over_seeds(study: Study):
    frame = calibration.calibration_frame(study, measure.draw(study.predictions, 200, 0))
    for row in frame.iter_rows(named=True):
        tests = [(p, y) for p, y, _, _ in runs(study, row["arm"])]
        ece = [
            multiclass_calibration_error(torch.as_tensor(p), torch.as_tensor(y), 6, n_bins=15)
            for p, y in tests
        ]
        assert row["ece"] == pytest.approx(float(np.mean(ece)), abs=1e-6)
        brier = [brier_score_loss(y, p, labels=range(6), scale_by_half=False) for p, y in tests]
        assert row["brier"] == pytest.approx(np.mean(brier))
        surest = [np.argsort(-p.max(1)) for p, _ in tests]
        errors = [(p.argmax(1) != y)[order] for (p, y), order in zip(tests, surest, strict=True)]
        areas = [np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1)) for wrong in errors]
        assert row["aurc"] == pytest.approx(np.mean(areas))
        over = [p.max(1).mean() - (p.argmax(1) == y).mean() for p, y in tests]
        assert row["overconfidence"] == pytest.approx(np.mean(over))
        for name in calibration.SCORES:
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    shown = calibration.calibration_table(frame)
    assert {len(cells) for cells in shown.rows} == {len(shown.header)}


def test_resampled_calibration_equals_that_of_repeated_images(study: Study):
    predictions = study.predictions[0]
    draws = measure.draw(study.predictions, 3, 1)
    sums = draws.sums(predictions, calibration.calibration_terms(predictions))
    resampled = calibration.calibration_scores(statistics.resample(sums, draws.counts))
    for b, counts in enumerate(draws.counts):
        times = counts[[draws.groups[name] for name in predictions.groups]].astype(int)
        p, y = (np.repeat(values, times, 0) for values in (predictions.probabilities, predictions.labels))
        assert resampled["ece"][b] == pytest.approx(metrics.ece(p, y))
        assert resampled["brier"][b] == pytest.approx(metrics.brier_terms(p, y).mean())
        assert resampled["overconfidence"][b] == pytest.approx(p.max(1).mean() - (p.argmax(1) == y).mean())
        area = metrics.risk_coverage(*metrics.confidences(p, y))[1].mean()
        assert resampled["aurc"][b] == pytest.approx(area, abs=0.01)  # first-order projection


def test_thresholds_come_from_validation_and_rates_from_test(study: Study):
    frame = calibration.operating_points_frame(study, measure.draw(study.predictions, 200, 0))
    for row in frame.filter(pl.col("arm") == "real").iter_rows(named=True):
        c = study.classes.index(row["label"])
        found = []
        for p, y, p_val, y_val in runs(study, "real"):
            alarms, hits, thresholds = roc_curve(y_val == c, p_val[:, c], drop_intermediate=False)
            best = np.argmax(hits - alarms)
            lower = p_val[:, c][p_val[:, c] < thresholds[best]].max()
            threshold = (thresholds[best] + lower) / 2
            (tn, fp), (fn, tp) = confusion_matrix(y == c, p[:, c] >= threshold)
            found.append((threshold, tp / (tp + fn), tn / (tn + fp), hits[best], 1 - alarms[best]))
        columns = (
            "threshold",
            "sensitivity",
            "specificity",
            "validation_sensitivity",
            "validation_specificity",
        )
        assert [row[name] for name in columns] == pytest.approx(np.mean(found, 0).tolist())
        assert row["sensitivity_low"] < row["sensitivity"] < row["sensitivity_high"]
        assert (row["validation_images"], row["test_images"]) == (6, 30)
    shown = calibration.operating_points_table(frame, ["real_small", "real"])
    assert [(row[0].text, row[1].text) for row in shown.rows] == [
        (label, arm) for label in study.classes for arm in ("real_small", "real")
    ]


def test_a_class_without_validation_images_has_no_operating_point(study: Study):
    for run in study.runs:
        file = run.artifacts["classify"] / "predictions.parquet"
        without = (pl.col("split") == "val") & (pl.col("label") == "acne")
        pl.read_parquet(file).filter(~without).write_parquet(file)
    frame = calibration.operating_points_frame(study, measure.draw(study.predictions, 50, 0))
    acne = frame.filter(pl.col("label") == "acne")
    assert acne["sensitivity"].null_count() == acne["threshold"].null_count() == len(study.arms)
    assert frame.filter(pl.col("label") != "acne")["sensitivity"].null_count() == 0
    assert str(calibration.operating_points_table(frame, ["real"]).rows[0][3]) == "–"


def test_reliability_adds_up_and_risks_end_at_the_error(study: Study):
    bins = np.array(calibration.reliability(study, measure.draw(study.predictions, 50, 0), "real"))
    assert (np.diff(bins[:, 0]) > 0).all()
    assert (bins[:, 4] * 180 >= 100 * calibration.LEAST_IMAGES).all()
    assert bins[:, 4].sum() <= 100
    by_bin = [np.searchsorted(np.arange(1, 15) / 15, p.max(1)) for p, _, _, _ in runs(study, "real")]
    last = [m for m in range(15) if all((b == m).sum() >= calibration.LEAST_IMAGES for b in by_bin)][-1]
    right = [
        (p.argmax(1) == y)[b == last].mean()
        for (p, y, _, _), b in zip(runs(study, "real"), by_bin, strict=True)
    ]
    assert bins[-1, 1] == pytest.approx(100 * np.mean(right))
    p, y, _, _ = runs(study, "real")[0]
    coverage, risk = calibration.risks(study, "real")[study.of("real")[0].seed]
    assert (coverage[-1], risk[-1]) == (100, pytest.approx(100 * np.mean(p.argmax(1) != y)))
    assert len(coverage) == 180 - calibration.LEAST_IMAGES + 1


@pytest.mark.parametrize("name", ["brier", "overconfidence", "aurc"])
def test_intervals_cover_the_truth_in_simulated_studies(name: str):
    """Three seeds of one classifier whose probabilities are true, on patients with two images each."""
    rng = np.random.default_rng(5)
    groups = np.arange(240) // 2

    def seeds(num_images: int, num_seeds: int = 3) -> list[collect.Predictions]:
        shared = rng.normal(size=(num_images // 2, 4)).repeat(2, 0)
        made = []
        p = np.exp(shared)
        labels = (
            (rng.uniform(size=(num_images, 1)) > (p / p.sum(1, keepdims=True)).cumsum(1)).sum(1).clip(max=3)
        )
        for _ in range(num_seeds):
            own = np.exp(1.2 * shared + rng.normal(0, 0.3, (num_images, 4)))
            made.append(collect.Predictions([], [], [], labels, own / own.sum(1, keepdims=True)))
        return made

    def score(predictions: collect.Predictions) -> statistics.Sums:
        return calibration.calibration_terms(predictions)

    truth = float(calibration.calibration_scores(statistics.total(score(seeds(200_000, 1)[0])))[name])
    covered = 0
    for _ in range(150):
        draws = measure.Draws({str(g): g for g in range(120)}, statistics.draw_counts(120, 119, 300, rng))
        sums = [statistics.group_sums(score(one), groups, 120) for one in seeds(240)]
        found = statistics.two_level(
            *(calibration.calibration_scores(part)[name] for part in draws.resample(sums))
        )
        covered += bool(found.low <= truth <= found.high)
    assert 0.9 <= covered / 150 <= 0.99


def test_curves_of_too_few_images_are_left_out():
    few = {0: (np.empty(0), np.empty(0)), 1: (np.empty(0), np.empty(0))}
    assert plots.lines({"real": few}, {"real": "#000000"}, "Errors").startswith("<svg")
