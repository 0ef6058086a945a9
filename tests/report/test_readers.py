"""Readers' AUC against scikit-learn, DeLong's formula written out, and simulated reader studies."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from skinaug.report.readers import ALL, auc_frame, auc_table, verdict


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
    for seed in range(150):
        skills = np.random.default_rng(100 + seed).normal(1, 0.4, 5)
        frame = auc_frame(study({f"r{k}": skill for k, skill in enumerate(skills)}, seed=seed), 300)
        row = frame.row(-1, named=True)
        assert row["reader"] == ALL
        covered.append(row["low"] <= truth <= row["high"])
    assert 0.88 < np.mean(covered) <= 1


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
