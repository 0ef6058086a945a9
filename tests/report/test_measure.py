"""The table of differences against paired t tests, where chance in training is the only chance there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from scipy import stats

from skinaug.report import measure
from skinaug.report.collect import Study

GAINS = {"base": 0.0, "large": 0.08, "middling": 0.025, "none": 0.0, "loss": -0.05}


def differences(num_seeds: int, classes: int = 5) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """A study whose test set brings no chance: its table, and the top-1 of each arm's seeds."""
    rng = np.random.default_rng(1)
    top1 = {arm: 0.6 + gain + rng.normal(0, 0.01, num_seeds) for arm, gain in GAINS.items()}
    scores = {
        (arm, seed): dict.fromkeys(measure.SCORES, np.asarray(value))
        for arm, values in top1.items()
        for seed, value in enumerate(values)
    }
    resampled = {
        run: {name: np.full(20, value) for name, value in own.items()} for run, own in scores.items()
    }
    about: Any = SimpleNamespace(arms=list(GAINS), baseline="base", classes=list("abcdefg")[:classes])
    frame = measure.differences_frame(cast(Study, about), measure.Measured(scores, resampled, 0))
    return frame, top1


def test_differences_equal_paired_t_tests_with_holm():
    frame, top1 = differences(6)
    assert frame.height == 4 * len(measure.SCORES)
    rows = frame.filter(pl.col("metric") == "top1")
    tests = [stats.ttest_rel(top1[arm], top1["base"]) for arm in rows["arm"]]
    assert rows["p"].to_list() == pytest.approx([test.pvalue for test in tests])
    intervals = [test.confidence_interval() for test in tests]
    assert rows["low"].to_list() == pytest.approx([interval.low for interval in intervals])
    assert rows["high"].to_list() == pytest.approx([interval.high for interval in intervals])
    steps = np.maximum.accumulate(np.sort(rows["p"].to_numpy()) * [4, 3, 2, 1])
    assert sorted(rows["p_holm"]) == pytest.approx(np.minimum(steps, 1).tolist())
    paired = [top1[arm] - top1["base"] for arm in rows["arm"]]
    assert rows["effect_size"].to_list() == pytest.approx([d.mean() / d.std(ddof=1) for d in paired])


def test_adjusted_intervals_are_bonferronis_unless_holm_needs_less():
    frame, top1 = differences(6)
    for row in frame.filter(pl.col("metric") == "top1").iter_rows(named=True):
        test = stats.ttest_rel(top1[row["arm"]], top1["base"])
        joint = test.confidence_interval(1 - 0.05 / 4)
        if not 0.05 / 4 <= row["p"] < 0.05:
            assert (row["low_adjusted"], row["high_adjusted"]) == pytest.approx((joint.low, joint.high))
        decided = row["low_adjusted"] > 0 or row["high_adjusted"] < 0
        assert decided == (row["p_holm"] < 0.05) == (row["verdict"] != measure.UNDECIDED)


def test_what_could_have_been_seen_is_at_the_level_of_the_family():
    frame, top1 = differences(6)
    row = frame.row(by_predicate=(pl.col("metric") == "top1") & (pl.col("arm") == "none"), named=True)
    error = stats.sem(top1["none"] - top1["base"])
    limit = stats.t.ppf(1 - 0.05 / 4 / 2, 5)
    assert stats.nct.sf(limit, 5, row["detectable"] / error) == pytest.approx(0.8, abs=1e-4)
    needed = row["seeds_needed"]
    assert needed is None or needed > 6
    large = frame.row(by_predicate=(pl.col("metric") == "top1") & (pl.col("arm") == "large"), named=True)
    assert large["verdict"] == "improves"
    assert large["seeds_needed"] <= 6


def test_one_seed_has_no_effect_size_and_no_number_of_seeds():
    frame, _ = differences(1)
    assert frame["effect_size"].null_count() == frame["seeds_needed"].null_count() == frame.height
    assert frame["seeds"].unique().to_list() == [1]


def test_two_classes_have_no_top2():
    frame, _ = differences(3, classes=2)
    assert frame["metric"].unique(maintain_order=True).to_list() == [
        "top1",
        "balanced_accuracy",
        "macro_f1",
        "auroc",
    ]
