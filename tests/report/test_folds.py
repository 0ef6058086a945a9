"""Runs that are several jobs: folds, pools and splits are put together, each classifier is scored on its own images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics

from skinaug.errors import InputError
from skinaug.report import (
    calibration,
    chance,
    collect,
    folds,
    measure,
    ranking,
    statistics,
    subgroups,
    temperature,
    thresholds,
    units,
)
from skinaug.report.collect import Run
from skinaug.report.report import report
from tests.report.conftest import ARMS, write_sweep

CLASSES = ("acne", "eczema", "nevus")
PATIENTS = 60


def predicted(
    images: Sequence[int], skill: float, rng: np.random.Generator, split: str = "test"
) -> pl.DataFrame:
    """A classifier's probabilities for numbered images, two a patient, whose class is their patient's."""
    labels = np.array([number // 6 % 3 for number in images])  # no fold's alone
    logits = rng.normal(size=(len(labels), 3)) + skill * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    columns = {f"p:{name}": probabilities[:, c] for c, name in enumerate(CLASSES)}
    names = {
        "image_id": [f"i{number}" for number in images],
        "group_id": [f"g{number // 2}" for number in images],
        "label": [CLASSES[label] for label in labels],
    }
    return pl.DataFrame({**names, "split": [split] * len(labels), **columns})


@pytest.fixture
def make_runs(tmp_path: Path) -> Callable[..., list[Run]]:
    """A function that writes the predictions of jobs, `arm -> skill` by seed and by what else they are told apart by."""

    def make(
        arms: Mapping[str, float], places: Sequence[Mapping[str, Any]], validated: bool = False
    ) -> list[Run]:
        runs = []
        for number, (arm, place) in enumerate((arm, place) for place in places for arm in arms):
            fold, num_folds = (
                place.get("dataset.fold"),
                len({p["dataset.fold"] for p in places if "dataset.fold" in p}),
            )
            tested = [i for i in range(2 * PATIENTS) if fold is None or i // 2 % num_folds == fold]
            rng, folder = np.random.default_rng(number), tmp_path / f"classify{number}"
            tables = [predicted(tested, arms[arm], rng)]
            if validated:
                others = [i for i in range(2 * PATIENTS) if i not in tested][:30]
                tables.append(predicted(others, arms[arm], rng, "val"))
            folder.mkdir()
            pl.concat(tables).write_parquet(folder / "predictions.parquet")
            overrides = {"mix": arm, **place}
            artifacts = {"classify": folder, "dataset": tmp_path / f"dataset{fold}"}
            runs.append(Run("study", arm, int(place["seed"]), overrides=overrides, artifacts=artifacts))
        return collect.name_arms(collect.distinct(runs))

    return make


def of_folds(seeds: int = 2, num_folds: int = 3) -> list[dict[str, Any]]:
    return [{"seed": seed, "dataset.fold": fold} for fold in range(num_folds) for seed in range(seeds)]


def test_folds_are_one_run_over_all_patients_and_no_arms(make_runs):
    runs = make_runs({"real": 0.5, "hybrid": 1.0}, of_folds())
    study = collect.make_study(runs)
    assert study.arms == ["real", "hybrid"]
    assert [(run.arm, run.seed, len(run.parts)) for run in study.runs] == [
        ("real", 0, 3), ("hybrid", 0, 3), ("real", 1, 3), ("hybrid", 1, 3),
    ]  # fmt: skip
    assert study.missing == ()
    for predictions in study.predictions:
        assert sorted(predictions.images) == sorted(f"i{number}" for number in range(2 * PATIENTS)), (
            "each once"
        )
    assert {job.artifacts["classify"] for job in study.jobs} == {run.artifacts["classify"] for run in runs}


def test_scores_are_those_of_all_patients_and_auroc_is_within_folds(make_runs):
    study = collect.make_study(make_runs({"real": 0.7}, of_folds(seeds=1)))
    measured = measure.measure(study, 50, 0)
    (run,), (predictions,) = study.runs, study.predictions
    scores = measured.scores["real", 0]
    guessed = predictions.probabilities.argmax(1)
    assert scores["top1"] == pytest.approx(metrics.accuracy_score(predictions.labels, guessed))
    assert scores["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(predictions.labels, guessed)
    )
    expected = np.zeros(3)
    for part in folds.split(predictions):
        for c in range(3):
            positive = part.labels == c
            expected[c] += positive.sum() * metrics.roc_auc_score(positive, part.probabilities[:, c])
    assert scores["auroc"] == pytest.approx(np.mean(expected / np.bincount(predictions.labels)))
    each = [float(fold["top1"]) for fold in folds.fold_scores(run, predictions)]
    assert np.mean(each) == pytest.approx(float(scores["top1"])), "folds of equal size"


def test_classifiers_on_other_scales_lose_no_auroc(make_runs):
    """One fold's classifier is as sure as another's is unsure: pooled, their probabilities would not rank."""
    study = collect.make_study(make_runs({"real": 3.0}, of_folds(seeds=1, num_folds=2)))
    (predictions,) = study.predictions
    flat = np.where(
        predictions.parts[:, None] == 0, predictions.probabilities, 0.3 + predictions.probabilities / 100
    )
    squeezed = collect.Predictions(**{**vars(predictions), "probabilities": flat})
    one, other = (
        statistics.scores(statistics.total(folds.terms(p)))["auroc"] for p in (predictions, squeezed)
    )
    assert one == pytest.approx(other)
    pooled = collect.Predictions(**{**vars(squeezed), "parts": None})
    assert statistics.scores(statistics.total(folds.terms(pooled)))["auroc"] < other - 0.01


def test_a_run_that_lacks_a_fold_is_left_out_and_told(make_runs):
    runs = make_runs({"real": 0.5, "hybrid": 1.0}, of_folds())
    study = collect.make_study([run for run in runs if run.place != (1, "", "", "2") or run.arm == "real"])
    assert study.missing == (("hybrid", 1),)
    assert [(run.arm, run.seed) for run in study.runs] == [("real", 0), ("hybrid", 0), ("real", 1)]
    with pytest.raises(InputError, match="No run has finished all its folds"):
        collect.make_study([run for run in runs if run.place[-1] == str(run.seed)])


def test_a_single_fold_is_a_split_like_any_other(make_runs):
    runs = [run for run in make_runs({"real": 0.5}, of_folds()) if run.place[-1] == "1"]
    assert [run.parts for run in collect.make_study(runs).runs] == [(), ()]


def test_thresholds_are_each_folds_own(make_runs):
    study = collect.make_study(make_runs({"real": 1.0}, of_folds(seeds=1), validated=True))
    draws = measure.draw(study.predictions, 20, 0)
    frame = calibration.operating_points_frame(study, draws)
    found = 0
    for test, val in folds.pairs(study.predictions[0], study.validation[0]):
        assert not set(test.groups) & set(val.groups), "no patient chooses the threshold that he is judged at"
        chosen = calibration.youden_thresholds(val.probabilities, val.labels)
        found += ((test.probabilities[:, 0] >= chosen[0]) & (test.labels == 0)).sum()
    assert frame["sensitivity"][0] == pytest.approx(found / (study.predictions[0].labels == 0).sum())


def test_rankings_thresholds_and_temperatures_are_each_folds_own(make_runs):
    study = collect.make_study(make_runs({"real": 1.0}, of_folds(seeds=1), validated=True))
    draws = measure.draw(study.predictions, 20, 0)
    whole = study.predictions[0]
    judged = list(folds.pairs(whole, study.validation[0]))
    assert len(judged) == 3
    precision, found, temperatures = 0.0, 0, []
    for test, val in judged:
        acne, scores = test.labels == 0, test.probabilities[:, 0]
        precision += metrics.average_precision_score(acne, scores) * acne.sum()
        negatives = np.sort(val.probabilities[val.labels != 0, 0])
        values = np.sort(val.probabilities[:, 0])
        lowest = next(k for k, value in enumerate(values) if (negatives < value).mean() >= 0.9)
        threshold = (values[lowest] + values[lowest - 1]) / 2
        found += ((scores >= threshold) & acne).sum()

        def unlikely(log_t: float, val: collect.Predictions = val) -> float:
            tempered = val.probabilities ** np.exp(-log_t)
            own = tempered[np.arange(len(val.labels)), val.labels] / tempered.sum(1)
            return float(-np.log(own).mean())

        temperatures.append(np.exp(minimize_scalar(unlikely, bounds=(-3, 3), method="bounded").x))
    positives = (whole.labels == 0).sum()
    own = ranking.ranking_frame(study, draws).filter(label="acne", metric="auprc")
    assert own["value"][0] == pytest.approx(precision / positives)
    at = thresholds.thresholds_frame(study, draws).filter(label="acne", kept="specificity", at_least=0.9)
    assert at["value"][0] == pytest.approx(found / positives)
    scaled = temperature.temperature_frame(study, draws)
    assert scaled["temperature"][0] == pytest.approx(np.mean(temperatures), rel=0.01)


def test_folds_widen_intervals_by_what_they_differ_by_beyond_patients():
    """Nadeau and Bengio's correction, by hand: (1/K + 1/(K-1)) of the spread that is left."""
    rng = np.random.default_rng(0)
    resampled = 0.7 + 0.01 * rng.normal(size=(4000, 1))
    variance = statistics.variance_of(np.array([0.7]), resampled)
    by_fold = np.array([0.6, 0.65, 0.7, 0.75, 0.8])
    wide = folds.with_training_sets(variance, resampled, by_fold, None)
    left = by_fold.var(ddof=1) - 5 * variance.patients
    assert wide.training == pytest.approx(left * (1 / 5 + 1 / 4))
    total, freedom = wide.of_mean()
    assert total == pytest.approx(variance.patients + wide.training)
    assert freedom == pytest.approx(4 * total / wide.training), "known from five folds"
    alike = folds.with_training_sets(variance, resampled, np.full(5, 0.7), None)
    assert alike.training == 0
    assert alike.of_mean()[1] == np.inf


def of_pools(seeds: int, pools: int) -> list[dict[str, Any]]:
    return [{"seed": s, "generate.seed": s % pools, "pools.number": s % pools} for s in range(seeds)]


def test_seeds_that_share_a_pool_are_one_and_intervals_are_over_pools(make_runs):
    study = collect.make_study(make_runs({"real": 0.5, "hybrid": 1.0}, of_pools(6, 3)))
    assert study.arms == ["real", "hybrid"], "pools are no arms"
    assert study.unit == "pool"
    assert [run.seed for run in study.of("hybrid")] == [0, 1, 2]
    assert [[job.seed for job in run.parts] for run in study.of("hybrid")] == [[0, 3], [1, 4], [2, 5]]
    measured = measure.measure(study, 200, 0)
    _, variance = measured.difference("hybrid", "real", "top1")
    assert variance.num_seeds == 3
    frame = chance.chance_frame(study, measured)
    row = frame.filter(pl.col("arm") == "hybrid", pl.col("baseline") == "real").row(0, named=True)
    assert row["patients"] + row["training"] + row["pools"] + row["sets"] == pytest.approx(1)
    by_seed = [chance.top1_by_seed(study, place) for place in range(6)]
    gains = [
        [by_seed[2 * g + 1][s] - by_seed[2 * g][s] for s in (g, g + 3)] for g in range(3)
    ]  # runs alternate between the arms
    between, within = np.var(np.mean(gains, 1), ddof=1), np.var(gains, 1, ddof=1).mean()
    assert variance.seed == pytest.approx(between)
    total = row["standard_error"] ** 2
    assert row["training"] * total == pytest.approx(min(within / 6, between / 3))
    assert row["pools"] * total == pytest.approx(max(between / 3 - within / 6, 0))


def test_one_seed_a_pool_tells_pools_and_training_not_apart(make_runs):
    study = collect.make_study(make_runs({"real": 0.5, "hybrid": 1.0}, of_pools(3, 3)))
    frame = chance.chance_frame(study, measure.measure(study, 50, 0))
    assert frame.height == 3
    assert frame["training"].is_null().all()
    assert frame["pools"].is_not_null().all()
    assert any("which one seed a pool does not tell apart" in note for note in chance.notes(study, frame))


def test_swept_pool_seeds_stay_arms_where_no_pools_were_dealt(make_runs):
    places = [{"seed": 0, "generate.seed": seed} for seed in (0, 1)]
    assert collect.make_study(make_runs({"hybrid": 0.5}, places)).arms == ["seed=0", "seed=1"]


def test_splits_are_repetitions_with_the_correction_for_shared_photographs(make_runs, monkeypatch):
    places = [{"seed": seed, "dataset.seed": split} for split in range(3) for seed in range(2)]
    study = collect.make_study(make_runs({"real": 0.5, "hybrid": 1.0}, places))
    assert study.arms == ["real", "hybrid"]
    assert (study.unit, [run.seed for run in study.of("real")]) == ("split", [0, 1, 2])
    monkeypatch.setattr(folds, "test_to_training", lambda study: 0.5)
    measured = measure.measure(study, 200, 0)
    _, variance = measured.difference("hybrid", "real", "top1")
    total, _ = variance.of_mean()
    assert total == pytest.approx(max(variance.seed * (1 / 3 + 0.5), variance.patients + variance.seed / 3))


def test_jobs_have_names_of_their_own(make_runs):
    assert list(units.name_jobs(make_runs({"real": 0.5}, of_folds(1, 2)))) == [
        "real/0/dataset.fold=0",
        "real/0/dataset.fold=1",
    ]
    assert list(units.name_jobs([Run("study", "real", 3, overrides={"seed": 3})])) == ["real/3"], (
        "as before there were any"
    )


def test_subgroups_know_the_patients_of_all_folds(make_runs, monkeypatch):
    study = collect.make_study(make_runs({"real": 0.5}, of_folds(seeds=1)))
    people = {
        fold: pl.DataFrame({"image_id": [f"i{n}" for n in range(120) if n // 2 % 3 == fold], "sex": "female"})
        for fold in range(3)
    }

    class Data:
        def __init__(self, folder: Path) -> None:
            self.table = people[int(folder.name[-1])]

        def split(self, name: str) -> Data:
            return self

    monkeypatch.setattr(subgroups, "read_once", Data)
    assert subgroups._test_images(study.runs[0]).height == 120


def test_a_report_of_folds_says_how_it_repeats(tmp_path: Path):
    """All of a report on runs of two folds, as their stages leave them."""
    for fold in range(2):
        write_sweep(
            tmp_path / "sweep" / str(fold),
            tmp_path / f"store{fold}",
            arms={name: ARMS[name] for name in ("real_small", "hybrid")},
            overrides=lambda arm, fold=fold: {"mix": arm, "dataset.fold": fold, "folds.count": 2},
            seeds=2,
            tests=12,
        )
    out = tmp_path / "report"
    out.mkdir()
    report(
        collect.name_arms(collect.distinct(collect.read_runs(tmp_path / "sweep"))), num_resamples=50, out=out
    )
    said = (out / "report.md").read_text()
    assert "2 folds: each of" in said
    assert "Nadeau and Bengio" in said
    assert "## Where the chance comes from" in said
    arms = pl.read_csv(out / "arms.csv")
    assert arms["arm"].to_list() == ["real_small", "hybrid"]
    assert arms["seeds"].to_list() == [2, 2]
    stages = pl.read_csv(out / "stages.csv")
    assert dict(stages.select("stage", "artifacts").iter_rows())["dataset"] == 2, "every fold's cost counts"
    assert "Where the chance comes from" in (out / "report.html").read_text()
