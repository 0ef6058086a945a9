"""Further test sets in the report: drawn predictions against plain counting, and ratios against Fieller's formula."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from skinaug.report import collect, further, measure, statistics
from skinaug.report.collect import Run
from skinaug.report.report import report
from skinaug.report.terminal import print_report
from tests.report.conftest import CLASSES

RIGHT = {
    "real_small": 0.3,
    "real": 0.5,
    "hybrid": 0.35,
    "synthetic": 0.2,
}  # share that an arm names correctly there


@pytest.fixture
def runs(make_sweep: Callable[..., Path], tmp_path: Path) -> list[Run]:
    """A sweep of which each run was also judged on 300 images of 100 patients of four of the six classes."""
    folder = tmp_path / "ddi"
    folder.mkdir()
    summary = {
        "images": 300,
        "patients": 100,
        "told": ["No image of tinea, vitiligo: scores are those of the other classes."],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    found = []
    for job, run in enumerate(collect.read_runs(make_sweep(seeds=5))):
        rng = np.random.default_rng(job)
        labels = np.arange(300) % 4
        guessed = np.where(rng.uniform(size=300) < RIGHT[run.arm], labels, (labels + 1) % 6)
        p = np.full((300, 6), 0.1)
        p[np.arange(300), guessed] = 0.5
        out = tmp_path / f"evaluate{job}"
        out.mkdir()
        pl.DataFrame(
            {
                "image_id": [f"ddi/{i}" for i in range(300)],
                "group_id": [f"ddi/p{i // 3}" for i in range(300)],
                "split": "test",
                "label": [CLASSES[label] for label in labels],
                "prediction": [CLASSES[c] for c in guessed],
                **{f"p:{name}": p[:, c] for c, name in enumerate(CLASSES)},
            }
        ).write_parquet(out / "predictions.parquet")
        (out / "certificate.json").write_text('{"holds": true}')
        for name in (folder, out):
            (name / "artifact.json").write_text((run.artifacts["classify"] / "artifact.json").read_text())
        judged = {"test.ddi": folder, "certify.ddi": out, "evaluate.ddi": out}
        found.append(Run(**{**vars(run), "artifacts": {**run.artifacts, **judged}}))
    return found


def top1(run: Run, stage: str) -> float:
    table = pl.read_parquet(run.artifacts[stage] / "predictions.parquet").filter(pl.col("split") == "test")
    return float((table["label"] == table["prediction"]).mean())  # type: ignore[arg-type]


def test_scores_and_gains_equal_plain_counting(runs: list[Run]):
    study = collect.make_study(runs)
    assert study.test_sets == ["ddi"]
    frame = further.further_frame(study, measure.measure(study, 300, 0), 300, 0)
    assert frame.height == 4 * len(further.JUDGES)
    by_arm = {row["arm"]: row for row in frame.filter(pl.col("metric") == "top1").iter_rows(named=True)}
    means = {
        stage: {arm: np.mean([top1(run, stage) for run in study.of(arm)]) for arm in study.arms}
        for stage in ("classify", "evaluate.ddi")
    }
    own, there = means["classify"], means["evaluate.ddi"]
    for arm, row in by_arm.items():
        assert row["score"] == pytest.approx(there[arm])
        assert row["change"] == pytest.approx(there[arm] - own[arm])
        assert row["change_low"] < row["change"] < row["change_high"] < 0, (
            "arms do worse there, and it is shown"
        )
        if arm == "real_small":
            assert row["difference"] is row["carried"] is None
            continue
        gain = own[arm] - own["real_small"]
        assert row["own_difference"] == pytest.approx(gain)
        assert row["difference"] == pytest.approx(there[arm] - there["real_small"])
        assert row["gain_change"] == pytest.approx(row["difference"] - gain)
        shown = not row["own_low"] <= 0 <= row["own_high"]
        assert (row["carried"] is not None) is shown
        if shown:
            assert row["carried"] == pytest.approx(row["difference"] / gain)
            assert row["carried_low"] < row["carried"] < row["carried_high"]
    assert by_arm["real"]["carried"] is not None
    assert by_arm["real"]["verdict"] == measure.IMPROVES
    balanced = frame.row(
        by_predicate=(pl.col("arm") == "real") & (pl.col("metric") == "balanced_accuracy"), named=True
    )
    recalls = [
        pl.read_parquet(run.artifacts["evaluate.ddi"] / "predictions.parquet")
        .group_by("label")
        .agg(recall=(pl.col("label") == pl.col("prediction")).mean())["recall"]
        .mean()
        for run in study.of("real")
    ]
    assert balanced["score"] == pytest.approx(np.mean(recalls)), "of the classes that are there"  # type: ignore[arg-type]


def test_the_report_tells_of_them(runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    out.mkdir()
    report(runs, num_resamples=100, out=out)
    for name in ("report.md", "report.html"):
        text = (out / name).read_text()
        for words in (
            "Further test sets",
            "300 photographs of 100 patients.",
            "No image of tinea",
            "Carried over",
        ):
            assert words in text, (name, words)
        assert "holds for 20 of 20 runs" in text
    assert pl.read_csv(out / "further.csv")["test_set"].unique().to_list() == ["ddi"]
    print_report(out)
    assert "On the test set ddi" in capsys.readouterr().out
    stages = pl.read_csv(out / "stages.csv")["stage"].to_list()
    assert (
        stages.index("mix")
        < stages.index("certify.ddi")
        < stages.index("classify")
        < stages.index("evaluate.ddi")
    )


def test_runs_that_were_not_judged_there_are_missing(runs: list[Run]):
    first = {name: folder for name, folder in runs[0].artifacts.items() if name != "evaluate.ddi"}
    study = collect.make_study([Run(**{**vars(runs[0]), "artifacts": first}), *runs[1:]])
    there = study.on("ddi")
    assert there.missing == ((runs[0].arm, runs[0].seed),)
    frame = further.further_frame(study, measure.measure(study, 50, 0), 50, 0)
    seeds = dict(frame.filter(pl.col("metric") == "top1").select("arm", "seeds").iter_rows())
    assert seeds == {"real_small": 4, "real": 5, "hybrid": 5, "synthetic": 5}
    plain = collect.make_study(
        [Run(**{**vars(run), "artifacts": {"classify": run.artifacts["classify"]}}) for run in runs]
    )
    assert plain.test_sets == []


def test_a_ratios_interval_is_fiellers():
    """With one seed the variances are known, and the ends are roots of a quadratic: Fieller 1954."""
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal([0.12, 0.2], [[0.0009, 0.0004], [0.0004, 0.0012]], 4000)
    above, below = ((np.array([mean]), draws[:, [k]]) for k, mean in enumerate((0.12, 0.2)))
    found = statistics.ratio(above, below)
    assert found is not None
    z = 1.959964
    (v11, v12), (_, v22) = np.cov(draws.T)
    roots = np.sort(np.roots([0.2**2 - z**2 * v22, -2 * (0.12 * 0.2 - z**2 * v12), 0.12**2 - z**2 * v11]))
    assert found.mean == pytest.approx(0.6)
    np.testing.assert_allclose([found.low, found.high], roots, rtol=1e-4)


def test_a_ratio_to_what_may_be_nothing_is_not_told():
    rng = np.random.default_rng(0)
    unsure = (np.array([0.02]), rng.normal(0.02, 0.03, (500, 1)))
    assert statistics.ratio((np.array([0.1]), rng.normal(0.1, 0.01, (500, 1))), unsure) is None
