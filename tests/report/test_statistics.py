"""Scores against scikit-learn and SciPy; intervals, tests and power against closed forms and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from skinaug.report import planning, statistics


def make_predictions(rng: np.random.Generator, num_images: int = 300, num_classes: int = 5):
    labels = rng.integers(num_classes, size=num_images)
    logits = rng.normal(size=(num_images, num_classes)) + 1.2 * np.eye(num_classes)[labels]
    probabilities = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 2)  # rounded: ties
    return probabilities / probabilities.sum(1, keepdims=True), labels


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    return statistics.scores(statistics.total(statistics.image_terms(probabilities, labels)))


def test_scores_equal_scikit_learn():
    probabilities, labels = make_predictions(np.random.default_rng(1))
    scores, predicted = score(probabilities, labels), probabilities.argmax(1)
    assert scores["top1"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert scores["auroc"] == pytest.approx(metrics.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert scores["recall"] == pytest.approx(metrics.recall_score(labels, predicted, average=None))


def test_top_k_equals_scikit_learn_without_ties():
    rng = np.random.default_rng(2)
    probabilities, labels = rng.dirichlet(np.ones(5), 200), rng.integers(5, size=200)
    for k in (2, 3):
        assert score(probabilities, labels)[f"top{k}"] == metrics.top_k_accuracy_score(
            labels, probabilities, k=k
        )


def test_uniform_probabilities_do_not_count_as_right():
    labels = np.arange(6).repeat(10)
    assert score(np.full((60, 6), 1 / 6), labels)["top1"] == pytest.approx(1 / 6)


def test_classes_without_images_are_left_out_of_the_means():
    probabilities, labels = make_predictions(np.random.default_rng(3))
    seen = labels != 4
    scores = score(probabilities[seen], labels[seen])
    assert np.isnan(scores["recall"][4])
    recalls = metrics.recall_score(labels[seen], probabilities[seen].argmax(1), labels=range(4), average=None)
    assert scores["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert np.isfinite(scores["auroc"])


def test_ranks_equal_scipy():
    values = np.random.default_rng(4).integers(20, size=100)
    np.testing.assert_array_equal(statistics.ranks(values), stats.rankdata(values))


def test_resampled_scores_equal_scores_of_repeated_images():
    rng = np.random.default_rng(5)
    probabilities, labels = make_predictions(rng)
    groups = rng.integers(80, size=300)
    counts = statistics.draw_counts(80, 80, 3, rng)
    sums = statistics.group_sums(statistics.image_terms(probabilities, labels), groups, 80)
    resampled = statistics.scores(statistics.resample(sums, counts))
    for b, drawn in enumerate(counts):
        rows = np.repeat(np.arange(300), drawn[groups].astype(int))
        expected = score(probabilities[rows], labels[rows])
        for name in ("top1", "top3", "balanced_accuracy", "macro_f1", "recall"):
            assert resampled[name][b] == pytest.approx(expected[name])
        assert resampled["auroc"][b] == pytest.approx(expected["auroc"], abs=0.003)  # first-order projection


def test_draws_keep_their_number_and_are_uniform():
    counts = statistics.draw_counts(10, 7, 5000, np.random.default_rng(6))
    assert (counts.sum(1) == 7).all()
    np.testing.assert_allclose(counts.mean(0), 0.7, atol=0.05)


def interval(
    right: np.ndarray, groups: np.ndarray, seed: int = 0, num_resamples: int = 2000
) -> statistics.Estimate:
    """Interval of mean correctness. right: [S, N] of 0 and 1; groups: [N]."""
    num_groups = groups.max() + 1
    sums = [np.bincount(groups, row, num_groups) for row in (np.ones(len(groups)), *right)]
    counts = statistics.draw_counts(num_groups, num_groups, num_resamples, np.random.default_rng(seed))
    images, *hits = (counts @ values for values in sums)
    return statistics.two_level(right.mean(1), np.stack(hits, 1) / images[:, None])


def test_one_seed_gives_the_binomial_interval():
    right = np.arange(500) < 270
    estimate = interval(right[None].astype(float), np.arange(500))
    half_width = statistics.half_width(0.54, 500)
    assert half_width == pytest.approx(1.959964 * np.sqrt(0.54 * 0.46 / 500))
    assert estimate.mean == pytest.approx(0.54)
    assert estimate.low == pytest.approx(0.54 - half_width, abs=0.004)
    assert estimate.high == pytest.approx(0.54 + half_width, abs=0.004)


def test_one_seed_equals_scipy_bootstrap_of_patients():
    rng = np.random.default_rng(7)
    groups = np.sort(rng.integers(60, size=200))
    groups = np.unique(groups, return_inverse=True)[1]
    right = (rng.random(groups.max() + 1)[groups] > 0.4).astype(float)  # all images of a patient go one way
    hits, images = np.bincount(groups, right), np.bincount(groups)
    reference = stats.bootstrap(
        (hits, images), lambda h, n, axis: h.sum(axis) / n.sum(axis), paired=True, vectorized=True,
        n_resamples=9999, method="percentile", rng=rng,
    ).confidence_interval  # fmt: skip
    estimate = interval(right[None], groups, num_resamples=9999)
    assert estimate.low == pytest.approx(reference.low, abs=0.01)
    assert estimate.high == pytest.approx(reference.high, abs=0.01)
    alone = interval(right[None], np.arange(len(right)))
    assert estimate.high - estimate.low > 1.3 * (alone.high - alone.low)  # patients are fewer than images


def test_interval_is_students_when_seeds_alone_differ():
    right = np.repeat([[0.2], [0.5], [0.65]], 50, axis=1)
    estimate = interval(right, np.arange(50))
    expected = stats.t.interval(0.95, 2, right[:, 0].mean(), stats.sem(right[:, 0]))
    assert (estimate.low, estimate.high) == pytest.approx(expected)


def test_variance_components_equal_a_crossed_analysis_of_variance():
    """Seeds x patients with one image each: expected mean squares give the components in closed form."""
    rng = np.random.default_rng(13)
    num_seeds, num_groups = 4, 60
    values = (
        rng.normal(size=(num_seeds, 1))
        + rng.normal(size=num_groups)
        + rng.normal(size=(num_seeds, num_groups))
    )
    counts = statistics.draw_counts(num_groups, num_groups - 1, 40_000, rng)
    found = statistics.variance_of(values.mean(1), (counts @ values.T) / (num_groups - 1))
    rows, columns = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    residual = ((values - rows - columns + values.mean()) ** 2).sum() / ((num_seeds - 1) * (num_groups - 1))
    between_groups = num_seeds * columns.var(ddof=1)
    assert found.patients == pytest.approx((between_groups - residual) / num_seeds / num_groups, rel=0.05)
    assert found.seed == pytest.approx(rows.var(ddof=1))


def test_equal_seeds_add_nothing():
    right = (np.random.default_rng(9).random(400) > 0.3).astype(float)
    one, three = (interval(np.tile(right, (s, 1)), np.arange(400)) for s in (1, 3))
    assert three.low == pytest.approx(one.low)
    assert three.high == pytest.approx(one.high)


def test_pairing_narrows_a_difference():
    rng = np.random.default_rng(10)
    easy = rng.random(400)
    first, second = ((easy + 0.1 * rng.random((3, 400)) > limit).astype(float) for limit in (0.45, 0.5))
    groups = np.arange(400)
    paired = interval(second - first, groups)
    a, b = interval(first, groups), interval(second, groups)
    unpaired = np.hypot(a.high - a.low, b.high - b.low)
    assert paired.high < 0
    assert paired.high - paired.low < 0.6 * unpaired


NUM_STUDIES = 1000
NUM_PATIENTS = 120


def study_differences(
    rng: np.random.Generator, metric: str, num_seeds: int, seed_sd: float, meeting: float, gain: float = 0.0
):
    """Simulated studies of two arms, each with seeds of its own, on the same 120 patients of 1 to 4 images.

    A patient's images share a class and a difficulty; arms meet patients differently (`meeting`); seeds differ in luck;
    the first arm is better by `gain`. All in probits: 0.1 is about 2.7 points of top-1. Returns differences [S, studies]
    and the same on resampled test sets [B, S, studies].
    """
    groups = np.repeat(np.arange(NUM_PATIENTS), rng.integers(1, 5, NUM_PATIENTS))
    starts = np.unique(groups, return_index=True)[1]
    kinds = rng.choice(4, NUM_PATIENTS, p=[0.4, 0.3, 0.2, 0.1])[groups]
    counts = statistics.draw_counts(NUM_PATIENTS, NUM_PATIENTS - 1, 1000, rng)
    weights = np.concatenate([np.ones((1, NUM_PATIENTS)), counts])  # the test set as it is, and resampled
    found = []
    for _ in range(NUM_STUDIES):
        patient = rng.normal(size=NUM_PATIENTS) + meeting * rng.normal(size=(2, 1, NUM_PATIENTS))
        luck = rng.normal(0, seed_sd, (2, num_seeds, 1))
        noise = 0.5 * rng.normal(size=len(groups)) + rng.normal(size=(2, num_seeds, len(groups)))
        logit = 0.3 + patient[..., groups] + luck + noise
        logit[0] += gain
        over, under = (np.add.reduceat(part, starts, axis=-1) for part in SUMS[metric](logit, kinds))
        over, under = (
            np.tensordot(weights, part, (1, -1)) for part in (over, under)
        )  # [B, terms, S], [B, terms]
        found.append((over / under[..., None]).mean(1))
    differences = np.stack(found, -1)
    return differences[0], differences[1:]


def top1_sums(logit: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ((logit[0] > 0).astype(float) - (logit[1] > 0))[None], np.ones((1, logit.shape[-1]))


def recall_sums(logit: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    right = (logit[0] > 0).astype(float) - (logit[1] > 0)
    of_class = kinds == np.arange(4)[:, None]
    return right * of_class[:, None], of_class.astype(float)


def auroc_sums(logit: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's placements of class 0 against the rest, which its logits are pushed above."""
    positive = kinds == 0
    terms = [
        [statistics.placements(seed + positive, positive) for seed in arm] for arm in logit
    ]  # [2, S] of above, below
    above, below = np.moveaxis(np.array(terms), 2, 0)
    halves = 2 * np.stack([above[0] - above[1], below[0] - below[1]])  # their mean over two terms is the sum
    return halves, np.stack([positive, ~positive]).astype(float)


SUMS = {"top1": top1_sums, "balanced_accuracy": recall_sums, "auroc": auroc_sums}


@pytest.mark.parametrize(
    ("metric", "num_seeds", "seed_sd", "meeting"),
    [
        *(
            ("top1", num_seeds, sd, meeting)
            for num_seeds in (3, 5, 10)
            for sd, meeting in ((0, 0), (0.1, 0.5), (0.5, 0))
        ),
        ("top1", 3, 0, 0.5),
        ("balanced_accuracy", 3, 0.1, 0.5),
        ("balanced_accuracy", 5, 0.5, 0),
        ("auroc", 3, 0.1, 0.5),
        ("auroc", 5, 0, 0.5),
    ],
)
def test_intervals_cover_the_true_difference(metric: str, num_seeds: int, seed_sd: float, meeting: float):
    """Where seeds differ little and much, where arms meet patients alike and not: 95 % +- 2."""
    differences = study_differences(np.random.default_rng(11), metric, num_seeds, seed_sd, meeting)
    estimate = statistics.two_level(*differences)
    covered = np.mean((estimate.low <= 0) & (estimate.high >= 0))
    assert 0.93 <= covered <= 0.97


def test_intervals_cover_a_difference_that_is_not_0():
    gain, seed_sd, meeting = 0.6, 0.2, 0.5
    sd = np.sqrt(1 + meeting**2 + seed_sd**2 + 0.5**2 + 1)
    truth = stats.norm.cdf((0.3 + gain) / sd) - stats.norm.cdf(0.3 / sd)
    rng = np.random.default_rng(18)
    estimate = statistics.two_level(*study_differences(rng, "top1", 3, seed_sd, meeting, gain))
    assert estimate.mean.mean() == pytest.approx(truth, abs=0.005)
    assert 0.93 <= np.mean((estimate.low <= truth) & (estimate.high >= truth)) <= 0.97


def test_one_seed_covers_the_choice_of_patients():
    estimate = statistics.two_level(*study_differences(np.random.default_rng(12), "top1", 1, 0, 0.5))
    assert 0.93 <= np.mean((estimate.low <= 0) & (estimate.high >= 0)) <= 0.97


def seeds_only(scores: np.ndarray) -> tuple[np.ndarray, statistics.Variance]:
    """Mean and variance of [S, ...] scores that the choice of patients does not move."""
    return scores.mean(0), statistics.variance_of(scores, np.broadcast_to(scores, (10, *scores.shape)))


def test_p_is_students_when_seeds_alone_differ():
    scores = np.random.default_rng(14).normal(0.4, 1, (6, 20))
    mean, variance = seeds_only(scores)
    np.testing.assert_allclose(statistics.p_value(mean, variance), stats.ttest_1samp(scores, 0).pvalue)
    np.testing.assert_allclose(statistics.effect_size(mean, variance), scores.mean(0) / scores.std(0, ddof=1))


def test_p_and_interval_agree_at_every_level():
    rng = np.random.default_rng(15)
    differences = study_differences(rng, "top1", 3, 0.1, 0.5)
    mean, variance = differences[0].mean(0), statistics.variance_of(*differences)
    p = statistics.p_value(mean, variance)
    for level in (0.5, 0.05, 0.01):
        estimate = statistics.interval(mean, variance, level)
        np.testing.assert_array_equal(p < level, (estimate.low > 0) | (estimate.high < 0))
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.02)


def random_variances(rng: np.random.Generator, num_seeds: int, count: int = 2000) -> statistics.Variance:
    """Of all kinds: each of the parts is 0 in a fifth of them, and all of them in a few."""
    parts = rng.exponential(1, (3, count)) * (rng.random((3, count)) > 0.2)
    patients, seed, meeting = parts * [[1.0], [num_seeds > 1], [num_seeds > 1]]
    return statistics.Variance(patients, seed, num_seeds, meeting)


@pytest.mark.parametrize("num_seeds", [1, 2, 3, 10])
def test_p_and_interval_agree_where_seeds_agree_and_far_out(num_seeds: int):
    rng = np.random.default_rng(20)
    variance = random_variances(rng, num_seeds)
    mean = rng.normal(size=2000) * 10 ** rng.uniform(-1, 2.5, 2000)
    p, widths = statistics.p_value(mean, variance), []
    for level in (0.9, 0.1, 0.05, 0.049, 0.01, 0.001, 1e-9):
        estimate = statistics.interval(mean, variance, level)
        close = np.abs(p / level - 1) < 1e-6
        np.testing.assert_array_equal((p < level) | close, (estimate.low > 0) | (estimate.high < 0) | close)
        widths.append(estimate.high - estimate.low)
    assert (np.diff(widths, axis=0) >= -1e-9).all(), "the surer, the wider"


def test_no_interval_is_narrower_than_two_thirds_of_what_patients_make_it():
    rng = np.random.default_rng(21)
    scores = 0.7 + 0.001 * rng.normal(size=(3, 500))  # seeds that agree, on the test set as it is
    resampled = scores + 0.03 * rng.normal(size=(400, 3, 500))  # though each meets patients in its own way
    variance = statistics.variance_of(scores, resampled)
    assert (variance.patients == 0).mean() > 0.3, "no part is found that all seeds share"
    estimate = statistics.two_level(scores, resampled)
    alone = stats.norm.ppf(0.975) * resampled.mean(1).std(0, ddof=1)
    half = (estimate.high - estimate.low) / 2
    assert (half >= 2 / 3 * alone - 1e-12).all()
    assert (half < 0.68 * alone).mean() > 0.3
    assert (planning.detectable(variance) >= half).all(), "what could be seen is told by the same width"


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2, 0.5])
def test_far_out_three_seeds_miss_no_more_often_than_they_may(share: float):
    """Studies of which `share` of the variance is the patients' and known: at one in a thousand, as for fifty arms."""
    rng, count = np.random.default_rng(22), 400_000
    seed = 3 * (1 - share) * rng.chisquare(2, count) / 2
    mean = rng.normal(size=count)
    estimate = statistics.interval(mean, statistics.Variance(np.full(count, share), seed, 3), 0.001)
    assert np.mean((estimate.low > 0) | (estimate.high < 0)) <= 0.0013


def test_no_difference_and_no_chance_is_no_finding():
    mean, variance = seeds_only(np.zeros(4))
    assert statistics.p_value(mean, variance) == 1
    estimate = statistics.interval(mean, variance)
    assert estimate.low == estimate.high == 0
    assert np.isnan(statistics.effect_size(mean, variance))


def test_holm_equals_published_values():
    # Steps by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, then never below the step before.
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(statistics.holm([0.02]), [0.02])
    np.testing.assert_allclose(statistics.holm([0.4, 0.9, 0.5]), [1, 1, 1])
    assert statistics.holm([]).shape == (0,)


def holm_by_steps(p: np.ndarray, level: float) -> list[bool]:
    """Holm's procedure as he tells it: while the smallest p left is below level / tests left, reject it."""
    left, rejected = list(range(len(p))), [False] * len(p)
    while left and p[least := min(left, key=lambda i: p[i])] < level / len(left):
        rejected[least] = True
        left.remove(least)
    return rejected


@given(st.lists(st.floats(0.001, 0.1), min_size=1, max_size=8))  # where decisions are close
def test_adjusted_values_and_interval_levels_decide_as_holm(values: list[float]):
    p = np.array(values)
    assume(np.abs(np.outer(p, np.arange(1, 9)) - 0.05).min() > 1e-9)  # no rounding at the edge
    expected = holm_by_steps(p, 0.05)
    assert (statistics.holm(p) < 0.05).tolist() == expected
    levels = statistics.family_levels(p)
    assert (p < levels).tolist() == expected
    assert (levels >= 0.05 / len(p) - 1e-12).all()


@pytest.mark.parametrize("effects", [(0, 0, 0, 0), (0, 0, 1.2, 3), (1, 1.5, 2, 3)])
def test_adjusted_intervals_hold_together(effects: tuple[float, ...]):
    """All differences of a family to one baseline are in their intervals at once in 95 % of simulated studies, or nearly."""
    rng, truth = np.random.default_rng(16), np.array(effects)
    together, wrong = [], []
    for _ in range(NUM_STUDIES):
        scores = truth + rng.normal(size=(8, 4)) + rng.normal(size=(8, 1))
        mean, variance = seeds_only(scores)
        p = statistics.p_value(mean, variance)
        estimate = statistics.interval(mean, variance, statistics.family_levels(p))
        together.append(((estimate.low <= truth) & (truth <= estimate.high)).all())
        wrong.append((statistics.holm(p) < 0.05)[truth == 0].any())
    assert np.mean(together) >= 0.93
    assert np.mean(wrong) <= 0.06


def test_a_detectable_difference_is_seen_in_80_percent_of_studies():
    rng, num_seeds, level = np.random.default_rng(17), 5, 0.05 / 3
    known = statistics.Variance(np.float64(0), np.float64(1), num_seeds)
    difference = planning.detectable(known, level)
    p = stats.ttest_1samp(difference + rng.normal(size=(num_seeds, 20_000)), 0).pvalue
    assert np.mean(p < level) == pytest.approx(planning.POWER, abs=0.01)
    patients = statistics.Variance(np.float64(1), np.float64(0), num_seeds)
    assert planning.detectable(patients) == pytest.approx(stats.norm.ppf([0.975, 0.8]).sum(), abs=1e-3)


def test_seeds_needed_are_the_fewest_with_80_percent_power():
    """Against the power of the t test from scipy's noncentral t."""

    def power(num_seeds: int) -> float:
        limit = stats.t.ppf(0.975, num_seeds - 1)
        return stats.nct.sf(limit, num_seeds - 1, 0.6 * num_seeds**0.5)

    needed = planning.seeds_needed(0.6, statistics.Variance(np.float64(0), np.float64(1), 4))
    assert power(needed - 1) < 0.8 <= power(needed)
    assert needed == planning.seeds_needed(-0.6, statistics.Variance(np.float64(0), np.float64(1), 10))


def test_no_number_of_seeds_makes_up_for_few_patients():
    variance = statistics.Variance(np.float64(0.01), np.float64(0.01), 5)
    assert (
        planning.seeds_needed(2.7 * 0.1, variance) is None
    )  # below 2.80 standard errors of the patients alone
    assert planning.seeds_needed(2.9 * 0.1, variance) > 5
    assert planning.seeds_needed(0.0, variance) is None
    assert planning.seeds_needed(9.0, statistics.Variance(np.float64(0.01), np.float64(0), 1)) is None
