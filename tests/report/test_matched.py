"""Both exposures beside each other: the gain, the synthetic images' part of it, and what the arm's unseen photographs bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from skinaug.report import collect, matched, measure
from skinaug.report.collect import Run

SKILLS = {("real_small", None): 0.3, ("hybrid", "all"): 1.5, ("hybrid", "arm"): 0.9}


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    found = []
    for seed in range(3):
        for (mix, exposure), skill in SKILLS.items():
            rng, folder = np.random.default_rng(len(found)), tmp_path / f"classify{len(found)}"
            folder.mkdir()
            labels = np.arange(120) % 2
            logits = rng.normal(size=(120, 2)) + skill * np.eye(2)[labels]
            probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            names = {"image_id": [f"i{n}" for n in range(120)], "group_id": [f"g{n}" for n in range(120)]}
            labelled = {"label": [("acne", "nevus")[label] for label in labels], "split": ["test"] * 120}
            scores = {f"p:{name}": probabilities[:, c] for c, name in enumerate(("acne", "nevus"))}
            pl.DataFrame({**names, **labelled, **scores}).write_parquet(folder / "predictions.parquet")
            pool = {"generate": tmp_path / f"pool of {exposure}"} if exposure else {}
            overrides = {"mix": mix, "exposure": exposure or "all", "seed": str(seed)}
            found.append(Run("study", mix, seed, overrides=overrides, artifacts={"classify": folder, **pool}))
    return collect.name_arms(found)


def test_arms_without_a_pool_are_not_named_by_an_exposure(runs: list[Run]):
    assert list(dict.fromkeys(run.arm for run in runs)) == [
        "real_small",
        "hybrid, exposure=all",
        "hybrid, exposure=arm",
    ]


def test_the_gain_is_the_matched_gain_and_what_lies_between(runs: list[Run], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matched.artifacts, "mix_table", lambda run: pl.DataFrame({"real": [5, 5]}))
    monkeypatch.setattr(matched, "seen", lambda run: 20 if run.overrides["exposure"] == "all" else 10)
    study = collect.make_study(runs)
    assert study.baseline == "real_small"
    measured = measure.measure(study, 200, 0)
    frame = matched.matched_frame(study, measured)
    assert frame.select("arm", "matched", "metric").rows() == [
        ("hybrid, exposure=all", "hybrid, exposure=arm", metric) for metric in matched.JUDGES
    ]
    row = frame.row(0, named=True)
    assert row["gain_all"] == pytest.approx(row["gain_matched"] + row["beyond"])
    for gain, (one, other) in {
        "gain_all": ("hybrid, exposure=all", "real_small"),
        "beyond": ("hybrid, exposure=all", "hybrid, exposure=arm"),
    }.items():
        expected = np.mean(
            [measured.scores[one, s]["top1"] - measured.scores[other, s]["top1"] for s in range(3)]
        )
        assert row[gain] == pytest.approx(expected)
        assert row[f"{gain}_low"] < row[gain] < row[f"{gain}_high"]
    (note,) = matched.notes(frame)
    assert "have seen 20 photographs" in note
    assert "with the 10 photographs of the arm alone" in note
    assert matched.matched_table(frame).rows[0][2:4]


def test_one_exposure_has_nothing_beside_it(runs: list[Run]):
    alone = [run for run in runs if run.overrides["exposure"] == "all"]
    study = collect.make_study(collect.name_arms(alone))
    assert matched.matched_frame(study, measure.measure(study, 20, 0)).is_empty()
