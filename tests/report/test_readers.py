"""Readers' AUC against scikit-learn, DeLong's formula written out, and simulated reader studies."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from skinaug.manifest import Manifest
from skinaug.report import collect
from skinaug.report.readers import ALL, FILE_NAME, auc_frame, auc_table, verdict
from skinaug.report.report import report


def study(skill: dict[str, float], count: int = 60, seed: int = 0) -> pl.DataFrame:
    """Answers of readers to as many photographs as synthetic images; skill 0 is guessing."""
    rng = np.random.default_rng(seed)
    synthetic = np.arange(2 * count) >= count
    hard = rng.normal(0, 0.7, 2 * count)
    parts = []
    for reader, own in skill.items():
        sure = own * (synthetic - 0.5) + hard + rng.normal(0, 0.7, 2 * count)
        parts.append(
            pl.DataFrame(
                {
                    "reader": reader,
                    "image_id": [f"i{k}" for k in range(2 * count)],
                    "group_id": [f"g{k}" for k in range(2 * count)],
                    "label": "nevus",
                    "source": np.where(synthetic, "synthetic", "real"),
                    "answer": np.digitize(sure, (-0.7, 0, 0.7)) + 1,
                }
            )
        )
    return pl.concat(parts)


def test_a_readers_auc_and_interval_are_delongs():
    answers = study({"ana": 1.0})
    row = auc_frame(answers, 20_000).row(0, named=True)
    truth, score = (answers["source"] == "synthetic").to_numpy(), answers["answer"].to_numpy()
    assert row["auc"] == pytest.approx(roc_auc_score(truth, score))
    won = np.array([(p > n) + (p == n) / 2 for p, n in product(score[truth], score[~truth])]).reshape(60, 60)
    variance = won.mean(1).var(ddof=1) / 60 + won.mean(0).var(ddof=1) / 60
    assert (row["high"] - row["low"]) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.04)
    assert row["right"] == pytest.approx(((score > 2) == truth).mean())
    assert (row["photographs"], row["synthetic"]) == (60, 60)


def test_the_interval_of_all_covers_readers_and_pictures():
    """Of simulated studies, whose readers differ in skill; the truth is the mean over many readers and pictures."""
    rng = np.random.default_rng(1)
    large = study({f"r{k}": skill for k, skill in enumerate(rng.normal(1, 0.4, 60))}, count=1500, seed=9)
    by_reader = large.group_by("reader").agg(
        pl.struct("source", "answer").map_batches(
            lambda s: roc_auc_score(s.struct.field("source") == "synthetic", s.struct.field("answer")),
            returns_scalar=True, return_dtype=pl.Float64,
        ).alias("auc")
    )  # fmt: skip
    truth, covered = by_reader["auc"].mean(), []
    for seed in range(60):
        skills = np.random.default_rng(100 + seed).normal(1, 0.4, 5)
        frame = auc_frame(study({f"r{k}": skill for k, skill in enumerate(skills)}, seed=seed), 200)
        row = frame.row(-1, named=True)
        assert row["reader"] == ALL
        covered.append(row["low"] <= truth <= row["high"])
    assert np.mean(covered) > 0.86


def test_only_shared_pictures_count_for_all():
    answers = study({"ana": 1.0, "bo": 1.0})
    half = answers.filter((pl.col("reader") == "ana") | (pl.int_range(pl.len()) % 2 == 0))
    frame = auc_frame(half)
    assert frame["reader"].to_list() == ["ana", "bo", ALL]
    assert frame["photographs"].to_list() == [60, 30, 30]
    one_kind = answers.filter((pl.col("reader") == "ana") | (pl.col("source") == "real"))
    assert auc_frame(one_kind)["reader"].to_list() == ["ana"], "bo has seen no synthetic image"
    assert auc_frame(one_kind.filter(pl.col("reader") == "bo")).is_empty()
    assert "No reader" in verdict(auc_frame(one_kind.filter(pl.col("reader") == "bo")))


def test_who_tells_all_apart_has_an_interval_too():
    """Clopper and Pearson's lower end for 20 of 20 is 0.025^(1/20)."""
    answers = study({"ana": 50.0}, count=20)
    row = auc_frame(answers).row(0, named=True)
    assert row["auc"] == 1
    assert (row["low"], row["high"]) == (pytest.approx(0.8316, abs=1e-4), 1)


def test_words_and_table():
    able, guessing = auc_frame(study({"ana": 1.5})), auc_frame(study({"ana": 0.0}))
    assert "ana can tell synthetic images from photographs: AUC 0." in verdict(able)
    assert "were not shown to be able to tell" in verdict(guessing) or "take photographs" in verdict(guessing)
    assert [str(cell) for cell in auc_table(able).rows[0]][:3] == ["ana", "60", "60"]


def test_the_report_has_the_readings_and_the_doubtful_labels(make_sweep: Callable[..., Path], tmp_path: Path):
    arms = {"real_small": (10, 0, 0.0), "hybrid": (10, 10, 0.25)}
    folder = make_sweep(arms=arms, seeds=2, tests=6)
    store = tmp_path / "sweep-store"
    for name in ("readings", "real_labels"):
        (store / name).mkdir()
        about = json.loads((store / "dataset" / "artifact.json").read_text()) | {"stage": name}
        (store / name / "artifact.json").write_text(json.dumps(about))
    study({"ana": 1.0, "bo": 1.2}).write_parquet(store / "readings" / FILE_NAME)
    data = Manifest.read(store / "dataset").table.with_row_index("row")
    data.select(
        "image_id", "path", "split", "group_id", "label",
        guess=pl.lit("acne <b>"), label_score=pl.col("row") / 1000, label_issue=pl.col("row") < 3,
        topic_score=pl.lit(0.5), off_topic=pl.col("row") == 7,
    ).write_csv(store / "real_labels" / "real_labels.csv")  # fmt: skip
    for file in folder.rglob("run.json"):
        run = json.loads(file.read_text())
        run["artifacts"]["real_labels"] = str(store / "real_labels")
        if "curate" in run["artifacts"]:
            run["artifacts"]["readings"] = str(store / "readings")
        file.write_text(json.dumps(run))
    (tmp_path / "out").mkdir()
    report(collect.read_runs(folder), num_resamples=50, out=tmp_path / "out")
    frame = pl.read_csv(tmp_path / "out" / "readers.csv")
    assert frame["reader"].to_list() == ["ana", "bo", ALL]
    page, text = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    assert verdict(frame.drop("pool")) in page
    assert page.count("acne → acne &lt;b&gt;, score 0.00") == 3, "one a suspect"
    for said in ("## Can readers tell synthetic images", "## Labels of the real photographs"):
        assert said in text
    counted = next(line for line in text.splitlines() if line.startswith(f"| all | {data.height}"))
    assert counted.split("|")[4:6] == [" 3 ", " 1 "]
