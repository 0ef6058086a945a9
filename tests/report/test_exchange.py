"""What a synthetic image is worth: simulated studies in which the answer is known, and curves that cannot tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skinaug.report import collect, exchange, learning_curve, measure, statistics

COUNTS = np.array([10, 20, 40, 80])
NUM_PATIENTS = 200


def strength(count: np.ndarray | float) -> np.ndarray:
    """Classifiers grow with the logarithm of real images: in probits, so that scores themselves are no straight line."""
    return 0.25 * np.log2(np.asarray(count, float) / 20)


def simulate(rng, strengths, num_seeds: int = 5, seed_sd: float = 0.05, num_resamples: int = 300):
    """Correctness of arms of these strengths on shared patients: scores [S, K], resampled [B, S, K]."""
    difficulty = rng.normal(size=NUM_PATIENTS)
    luck = rng.normal(0, seed_sd, (num_seeds, len(strengths), 1))
    noise = rng.normal(0, 0.7, (num_seeds, len(strengths), NUM_PATIENTS))
    right = (np.asarray(strengths)[:, None] + luck + difficulty + noise > 0).astype(float)
    counts = statistics.draw_counts(NUM_PATIENTS, NUM_PATIENTS - 1, num_resamples, rng)
    resampled = np.moveaxis(right @ counts.T, -1, 0) / (NUM_PATIENTS - 1)
    return right.mean(-1), resampled


def study(
    rng, rate: float, real: int = 20, synthetic: int = 20, **settings
) -> tuple[str, learning_curve.Worth]:
    strengths = [*strength(COUNTS), strength(real + rate * synthetic)]
    scores, resampled = simulate(rng, strengths, **settings)
    curve = learning_curve.Curve(COUNTS.astype(float), scores[:, :-1], resampled[..., :-1])
    return learning_curve.no_curve(curve), learning_curve.worth(
        curve, scores[:, -1], resampled[..., -1], real, synthetic
    )


@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_intervals_hold_the_rate_that_studies_were_made_with(rate: float, num_seeds: int):
    rng = np.random.default_rng(1)
    found = [study(rng, rate, num_seeds=num_seeds) for _ in range(300)]
    covered = np.mean([worth.low <= rate <= worth.high for _, worth in found])
    assert 0.92 <= covered <= 0.98
    measurable = np.mean([reason == "" for reason, _ in found])
    assert measurable > 0.98
    assert np.median([worth.rate for _, worth in found]) == pytest.approx(rate, abs=0.1)


def test_hardly_any_chance_gives_the_rate_itself():
    scores, resampled = noiseless([0.4, 0.5, 0.6, 0.7, 0.55])
    curve = learning_curve.Curve(COUNTS.astype(float), scores[:, :-1], resampled[..., :-1])
    worth = learning_curve.worth(curve, scores[:, -1], resampled[..., -1], 20, 10)
    count = 20 * 2**0.5  # half of a doubling
    assert worth.equivalent == pytest.approx(count)
    assert worth.rate == pytest.approx((count - 20) / 10)
    assert worth.low <= worth.rate <= worth.high
    assert worth.high - worth.low < 0.15


@pytest.mark.parametrize(("score", "end"), [(0.8, np.inf), (0.3, -np.inf)])
def test_scores_beyond_the_curve_are_not_extrapolated(score: float, end: float):
    scores, resampled = noiseless([0.4, 0.5, 0.6, 0.7, score])
    curve = learning_curve.Curve(COUNTS.astype(float), scores[:, :-1], resampled[..., :-1])
    worth = learning_curve.worth(curve, scores[:, -1], resampled[..., -1], 20, 10)
    assert worth.equivalent == worth.rate == end
    bounds = ((80 - 20) / 10, np.inf) if end > 0 else (-np.inf, (10 - 20) / 10)
    assert (worth.low, worth.high) == pytest.approx(bounds)


def test_a_dip_in_the_curve_is_levelled():
    scores, resampled = noiseless([0.4, 0.62, 0.58, 0.7, 0.6])
    curve = learning_curve.Curve(COUNTS.astype(float), scores[:, :-1], resampled[..., :-1])
    assert learning_curve.worth(curve, scores[:, -1], resampled[..., -1], 10, 10).equivalent == pytest.approx(
        20
    )


def noiseless(scores: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Five seeds and 50 resampled test sets that differ by a ten-thousandth."""
    rng = np.random.default_rng(2)
    means = np.array(scores) + rng.normal(0, 1e-4, (5, 1))
    return means, means + rng.normal(0, 1e-4, (50, 5, len(scores)))


def test_curves_that_cannot_tell_say_why():
    rng = np.random.default_rng(3)
    scores, resampled = simulate(rng, [0.0, 0.0, 0.0])
    flat = learning_curve.no_curve(learning_curve.Curve(COUNTS[:3].astype(float), scores, resampled))
    assert flat.startswith("top-1 is not shown to rise from 10 to 40 real images a class")
    few = learning_curve.no_curve(
        learning_curve.Curve(COUNTS[:2].astype(float), scores[:, :2], resampled[..., :2])
    )
    assert few.endswith("at 3 counts a class or more, and there are 2")


ARMS = {
    "real 5": (5, 0, -1.2),
    "real 10": (10, 0, 0.0),
    "real 20": (20, 0, 1.2),
    "x1": (10, 10, 1.2),
    "x2": (10, 20, 1.2),
    "x4": (10, 40, 1.2),
    "alone": (0, 10, -3.0),
}


@pytest.fixture
def measured(make_sweep):
    study = collect.make_study(collect.read_runs(make_sweep(arms=ARMS, tests=60, size=16)), "real 10")
    return study, measure.measure(study, 300, 0)


def test_arms_of_a_sweep_get_their_worth(measured):
    frame = exchange.exchange_frame(*measured)
    rows = {row["arm"]: row for row in frame.iter_rows(named=True)}
    assert list(rows) == ["x1", "x2", "x4", "alone"]
    assert rows["x1"]["low"] <= 1 <= rows["x1"]["high"]
    assert rows["x2"]["low"] <= 0.5 <= rows["x2"]["high"]
    assert rows["x4"]["ratio"] == 4
    assert (rows["x4"]["least"], rows["x4"]["most"]) == (-5 / 40, 10 / 40)
    assert rows["alone"]["rate"] == -np.inf
    assert rows["alone"]["high"] <= 0.5
    assert {rows[arm]["saturation"] for arm in ("x1", "x2", "x4")} == {1.0}
    assert rows["alone"]["saturation"] is None
    shown = {str(row[0]): str(row[-1]) for row in exchange.exchange_table(frame).rows}
    assert shown["alone"].startswith("less than 0.50 (less than 0.50 to ")
    assert "Beyond 1 synthetic images to a real one" in exchange.exchange_notes(frame)[0]


def test_a_drawing_holds_the_curve_and_the_arms_that_it_measures(measured):
    study, scores = measured
    frame = exchange.exchange_frame(study, scores)
    (drawing,) = exchange.drawings(study, scores, frame)
    assert [row["arm"] for row in drawing.arms] == ["x1", "x2", "x4", "alone"]
    for (count, estimate), arm in zip(drawing.points.items(), ("real 5", "real 10", "real 20"), strict=True):
        assert count == ARMS[arm][0]
        assert float(estimate.mean) == pytest.approx(float(scores.estimate(arm, "top1").mean))
    assert drawing.risen == pytest.approx([float(own.mean) for own in drawing.points.values()])


def test_controls_and_other_settings_are_no_points_of_the_curve(measured):
    study, scores = measured
    changes = {
        "real 5": {"mix": {"control": "duplicated_real"}},
        "real 20": {"classify": {"steps": 7, "seed": 3}},
    }
    runs = tuple(replace(run, config={**run.config, **changes.get(run.arm, {})}) for run in study.runs)
    frame = exchange.exchange_frame(replace(study, runs=runs), scores)
    assert frame["rate"].null_count() == frame.height
    assert exchange.exchange_table(frame) is None
    assert exchange.exchange_notes(frame)[0] == (
        "Not measurable for x1, x2, x4, alone: it takes arms of real images only at 3 counts a class or more, and there are 1."
    )


def test_the_seed_is_no_setting(measured):
    study, scores = measured
    runs = tuple(replace(run, config={"classify": {"seed": run.seed}}) for run in study.runs)
    assert exchange.exchange_frame(replace(study, runs=runs), scores)["reason"].unique().to_list() == [""]
