"""As good as the baseline: against SciPy's one-sided tests and noncentral t, and where the words stand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skinaug.errors import InputError
from skinaug.models.shown import summary
from skinaug.report import collect, margin, measure, planning, text
from skinaug.report.collect import Study
from skinaug.report.report import report
from skinaug.report.statistics import Variance
from skinaug.report.terminal import print_report
from skinaug.store.artifact import Artifact
from tests.report.conftest import write_sweep

ADJUSTED = st.tuples(st.floats(-0.2, 0.2), st.floats(1e-6, 0.1))  # middle and half of an interval


def judged(gains: dict[str, float], num_seeds: int, within: float, seed: int) -> tuple[pl.DataFrame, dict]:
    """A study whose test set brings no chance, judged by a margin in points; and the top-1 of each arm's seeds."""
    rng = np.random.default_rng(seed)
    top1 = {arm: 0.6 + gain + rng.normal(0, 0.01, num_seeds) for arm, gain in gains.items()}
    scores = {
        (arm, s): dict.fromkeys(measure.SCORES, np.asarray(value))
        for arm, values in top1.items()
        for s, value in enumerate(values)
    }
    resampled = {
        run: {name: np.full(20, value) for name, value in own.items()} for run, own in scores.items()
    }
    about: Any = SimpleNamespace(arms=list(gains), baseline="base", classes=list("abcde"))
    measured = measure.Measured(scores, resampled, 0)
    return margin.judged(measure.differences_frame(cast(Study, about), measured), measured, within), top1


@pytest.mark.parametrize("seed", range(12))
def test_two_arms_are_judged_as_by_two_one_sided_t_tests(seed: int):
    gain, within = (-0.04, -0.02, 0.0, 0.03)[seed % 4], (2.0, 5.0, 1.2)[seed % 3]
    frame, top1 = judged({"base": 0.0, "other": gain}, 5, within, seed)
    row = frame.row(0, named=True)
    differences = top1["other"] - top1["base"]

    def one_sided(edge: float, alternative: str) -> bool:
        return stats.ttest_1samp(differences, edge, alternative=alternative).pvalue < 0.025

    above, below = one_sided(-within / 100, "greater"), one_sided(within / 100, "less")
    assert (row["non_inferior"], row["equivalent"]) == (above, above and below)
    assert row["inferior"] == one_sided(-within / 100, "less")


def test_only_top1_is_judged_and_nothing_without_a_margin():
    frame, _ = judged({"base": 0.0, "other": 0.0, "third": 0.02}, 4, 3.0, 0)
    others = frame.filter(pl.col("metric") != "top1").select(*margin.MARGIN)
    assert others.null_count().row(0) == (others.height,) * others.width
    assert frame.filter(pl.col("metric") == "top1")["margin"].to_list() == [0.03, 0.03]
    bare = frame.drop(*margin.MARGIN)
    assert margin.judged(bare, cast(Any, None), None) is bare
    row = bare.row(0, named=True)
    assert margin.clause(row) == margin.crowd_clause(bare) == margin.note(bare) == ""


@given(ADJUSTED, st.floats(0.001, 0.2))
def test_no_two_verdicts_contradict_each_other(interval: tuple[float, float], within: float):
    low, high = interval[0] - interval[1], interval[0] + interval[1]
    row = {"low_adjusted": low, "high_adjusted": high}
    row |= {"metric": "top1", "arm": "a", "baseline": "b"}
    variance = Variance(np.float64(0.01), np.float64(0), 1)
    measured: Any = SimpleNamespace(difference=lambda *_: (0.0, variance))
    row |= margin.judged(pl.DataFrame([row]), measured, 100 * within).row(0, named=True)
    improves, harms = low > 0, high < 0
    assert row["non_inferior"] or not (improves or row["equivalent"])
    assert harms or not row["inferior"]
    assert not (row["inferior"] and row["non_inferior"])
    # Beyond 0 and not shown to be beyond the margin: less than the margin, or not known.
    assert row["equivalent"] == (row["non_inferior"] and high < within)


def test_power_is_that_of_the_noncentral_t():
    num_seeds, level, within = 6, 0.05 / 3, 0.03
    known = Variance(np.float64(0), np.float64(0.02**2), num_seeds)
    limit = stats.t.ppf(1 - level / 2, num_seeds - 1)
    shift = within / (0.02 / num_seeds**0.5)
    assert planning.power(within, known, level) == pytest.approx(stats.nct.sf(limit, num_seeds - 1, shift))
    rng = np.random.default_rng(1)
    differences = rng.normal(0, 0.02, (20_000, num_seeds))
    half = limit * stats.sem(differences, axis=1)
    low, high = differences.mean(1) - half, differences.mean(1) + half
    assert planning.power(within, known, level) == pytest.approx(np.mean(low > -within), abs=0.01)
    assert planning.power_within(within, known, level) == pytest.approx(
        np.mean((low > -within) & (high < within)), abs=0.01
    )
    assert planning.power_within(0.001, known, level) == 0, "no interval is so narrow"


def test_seeds_needed_are_the_fewest_with_80_percent_power():
    known = Variance(np.float64(0), np.float64(0.02**2), 4)
    needed = margin.seeds_within(0.02, known, 0.05)
    powers = [planning.power_within(0.02, known, 0.05, count) for count in (needed - 1, needed)]
    assert powers[0] < 0.8 <= powers[1]
    assert needed > planning.seeds_needed(0.02, known, 0.05), "both sides are harder to show than one"
    patients = Variance(np.float64(0.01**2), np.float64(0.02**2), 4)
    assert margin.seeds_within(0.02, patients, 0.05) is None, (
        "below 3.24 standard errors of the patients alone"
    )
    assert margin.seeds_within(0.02, Variance(np.float64(0.0001), np.float64(0), 1), 0.05) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a margin on arms that are better, alike and much worse."""
    place = tmp_path_factory.mktemp("margin")
    arms = {"real_small": (10, 0, 0.0), "better": (20, 0, 1.5), "same": (10, 0, 0.0), "worse": (0, 20, -2.0)}
    runs = collect.read_runs(write_sweep(place / "sweep", place / "store", arms=arms))
    (place / "out").mkdir()
    report(runs, margin=2, num_resamples=200, samples_per_class=1, out=place / "out")
    return place / "out"


def test_words_stand_wherever_verdicts_do(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = {
        r["arm"]: r
        for r in pl.read_csv(folder / "differences.csv").filter(metric="top1").iter_rows(named=True)
    }
    assert [rows["better"][name] for name in ("non_inferior", "equivalent", "inferior")] == [
        True,
        False,
        False,
    ]
    assert [rows["worse"][name] for name in ("non_inferior", "equivalent", "inferior")] == [
        False,
        False,
        True,
    ]
    markdown = (folder / "report.md").read_text()
    first = markdown.split("\n\n")[1]
    assert "**worse** harms top-1" in first
    assert first.count("; worse by more than 2 points.") == 1
    assert "not worse by more" not in first.partition("**better**")[2].partition("**")[0], "that is no news"
    assert margin.clause(rows["same"]) in first
    assert "| worse by more |" in markdown
    assert "Margin of 2 points of top-1." in markdown
    page = (folder / "report.html").read_text()
    assert "Margin of 2 points" in page
    assert page.index("worse by more than 2 points") < page.index("<h2>Arms</h2>")
    assert "& worse by more &" in (folder / "tex" / "differences.tex").read_text()
    print_report(folder)
    assert "Margin of" in capsys.readouterr().out


def test_a_dashboard_has_the_verdicts_as_numbers(folder: Path):
    (folder / "artifact.json").write_text('{"seconds": 1.0}')
    told = summary(Artifact("report", "r0", folder))
    assert (told["worse/harms"], told["worse/inferior"], told["worse/non_inferior"]) == (1, 1, 0)
    assert (told["better/improves"], told["better/non_inferior"], told["better/equivalent"]) == (1, 1, 0)
    assert told["better/low"] > 0 > told["worse/high"]
    assert not any(name.startswith("real_small/") for name in told)


def row(low: float, high: float, **others: Any) -> dict[str, Any]:
    """A row of `judged` by top-1 with a margin of 3 points."""
    return {
        **{
            "arm": "hybrid",
            "baseline": "real",
            "metric": "top1",
            "seeds": 5,
            "margin": 0.03,
            "detectable": 0.05,
        },
        **{"difference": (low + high) / 2, "low_adjusted": low, "high_adjusted": high},
        **{"verdict": measure.verdict(low, high), "power_non_inferior": 0.412, "seeds_non_inferior": 12},
        **{"non_inferior": low > -0.03, "equivalent": low > -0.03 and high < 0.03, "inferior": high < -0.03},
        **others,
    }


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.05, ""),
        (0.01, 0.02, "; yet equivalent within 3 points"),
        (-0.02, 0.02, "; equivalent within 3 points"),
        (-0.02, 0.04, "; not worse by more than 3 points"),
        (
            -0.05,
            0.04,
            "; whether worse by more than 3 points is not shown either way (power 41 %, 80 % with 12 seeds)",
        ),
        (-0.05, -0.01, "; whether worse by more than 3 points is not shown either way"),
        (-0.02, -0.01, "; yet equivalent within 3 points"),
        (-0.06, -0.04, "; worse by more than 3 points"),
    ],
)
def test_what_the_first_paragraph_adds(low: float, high: float, said: str):
    assert margin.clause(row(low, high)) == said


def test_what_it_takes_is_told_where_no_number_of_seeds_would_do():
    assert margin.planned(row(-0.05, 0.04, seeds_non_inferior=None)) == "power 41 %, more patients needed"
    assert (
        margin.planned(row(-0.05, 0.04, seeds_non_inferior=None, seeds=1)) == "power 41 %, more seeds needed"
    )
    assert margin.verdict(row(-0.005, 0.04, margin=0.01)) == "not worse by more than 1 point"


def test_of_many_arms_they_are_counted():
    rows = [row(-0.02, 0.02), row(-0.02, 0.02), row(-0.02, 0.04), row(-0.05, 0.04), row(-0.05, 0.04)]
    sentence = text._verdicts(pl.DataFrame([{**r, "arm": f"arm {i}"} for i, r in enumerate(rows)]))
    assert len(sentence) == 1
    assert sentence[0].rest.endswith(
        "; 2 equivalent within 3 points, 1 not worse by more than 3 points, 2 not shown either way."
    )


@pytest.mark.parametrize("bad", [0, -3, 100, float("nan"), float("inf"), "three", True, [3]])
def test_a_margin_that_is_none_is_refused(bad: Any, tmp_path: Path):
    with pytest.raises(InputError, match=r"report\.margin="):
        report([], margin=bad, out=tmp_path)
    assert not any(tmp_path.iterdir())
