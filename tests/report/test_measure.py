"""The table of differences against paired t tests, where chance in training is the only chance there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from scipy import stats

from skinaug.report import measure, statistics
from skinaug.report.collect import Study
from skinaug.report.statistics import Variance

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


@pytest.mark.parametrize("patients", [1, 7, 40])
def test_certain_shares_have_the_exact_binomial_interval(patients: int):
    nothing = Variance(np.zeros(3), np.zeros(3), 3)
    found = measure.share_interval(np.array([0, 1, 0.5]), nothing, np.full(3, patients))
    for k, hits in ((0, 0), (1, patients)):
        exact = stats.binomtest(hits, patients).proportion_ci(method="exact")
        assert (found.low[k], found.high[k]) == pytest.approx((exact.low, exact.high))
    assert (found.low[2], found.high[2]) == (0.5, 0.5)


def test_shares_stay_within_0_and_1_and_scores_that_a_seed_lacks_are_unknown():
    rng = np.random.default_rng(0)
    scores, resampled = rng.uniform(0.8, 1, (4, 3)), rng.uniform(0.5, 1, (50, 4, 3))
    scores[1, 2], resampled[:, 1, 2] = np.nan, np.nan
    variance = measure.known_variance(scores, resampled)
    expected = statistics.variance_of(scores[:, :2], resampled[..., :2])
    np.testing.assert_allclose(variance.patients, [*expected.patients, np.nan])
    np.testing.assert_allclose(variance.seed, [*expected.seed, np.nan])
    found = measure.share_interval(scores.mean(0), variance, np.full(3, 9))
    assert (found.high[:2] == 1).all()
    assert np.isnan([found.low[2], found.high[2]]).all()


def test_what_all_seeds_share_is_resampled_like_the_rest():
    rng = np.random.default_rng(1)
    draws = measure.Draws({}, statistics.draw_counts(30, 29, 20, rng))
    images = rng.integers(1, 5, 30).astype(float)
    sums = [{"images": images.copy(), "right": rng.uniform(size=(30, 2))} for _ in range(3)]
    on_test, on_drawn = draws.resample(sums)
    for s, own in enumerate(sums):
        for name, values in own.items():
            np.testing.assert_allclose(on_test[name][s], values.sum(0))
            np.testing.assert_allclose(on_drawn[name][:, s], np.tensordot(draws.counts, values, 1))


def test_a_few_arms_are_all_shown_and_of_many_the_baseline_and_the_ends():
    arms = pl.DataFrame({"arm": list("abcdef"), "top1": [0.5, 0.7, 0.4, 0.6, 0.55, 0.45], "baseline": False})
    arms = arms.with_columns(baseline=pl.col("arm") == "d")
    assert measure.shown_arms(arms) == ["d", "b", "c"]
    assert measure.shown_arms(arms.head(4)) == list("abcd")
    assert measure.shown_arms(arms.with_columns(baseline=pl.col("arm") == "b")) == ["b", "c"]
