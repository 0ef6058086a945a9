"""Scores against scikit-learn and SciPy, intervals against closed forms, SciPy's bootstrap and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from skinaug.report import statistics


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
    rng: np.random.Generator, metric: str, num_seeds: int, seed_sd: float, interaction: float
):
    """Simulated studies of two equally good arms, each with seeds of its own, on the same 120 patients of 1 to 4 images.

    A patient's images share a difficulty; arms meet patients differently (`interaction`); seeds differ in luck. In probits:
    0.1 is about 2.7 points of top-1. Returns differences [S, studies] and the same on resampled test sets [B, S, studies].
    """
    groups = np.repeat(np.arange(NUM_PATIENTS), rng.integers(1, 5, NUM_PATIENTS))
    num_images, num_resamples = len(groups), 500
    kinds = rng.choice(4, NUM_PATIENTS, p=[0.4, 0.3, 0.2, 0.1])[groups]  # the class, one a patient
    counts = statistics.draw_counts(NUM_PATIENTS, NUM_PATIENTS - 1, num_resamples, rng)
    sums = np.zeros((NUM_PATIENTS, num_images))
    sums[groups, np.arange(num_images)] = 1
    both = [
        np.ones((1, num_images)),
        counts @ sums,
    ]  # the test set as it is, and resampled: weights of images
    found = []
    for _ in range(NUM_STUDIES):
        patient = rng.normal(0, 1, NUM_PATIENTS) + rng.normal(0, interaction, (2, 1, NUM_PATIENTS))
        image = rng.normal(0, 0.5, num_images)
        luck = rng.normal(0, seed_sd, (2, num_seeds, 1))
        logit = 0.3 + patient[..., groups] + image + luck + rng.normal(size=(2, num_seeds, num_images))
        found.append([metrics_of(weights, kinds, logit, metric) for weights in both])
    scores, resampled = (np.stack(values, -1) for values in zip(*found, strict=True))
    return scores[0], resampled


def metrics_of(weights: np.ndarray, kinds: np.ndarray, logit: np.ndarray, metric: str) -> np.ndarray:
    """Differences of the two arms on test sets given by weights [B, N]: [B, S]."""
    if metric == "top1":
        values = (logit > 0).astype(float)
        return weights @ (values[0] - values[1]).T / weights.sum(1, keepdims=True)
    right = (logit[0] > 0).astype(float) - (logit[1] > 0)
    recalls = [weights @ (right * (kinds == c)).T / (weights @ (kinds == c))[:, None] for c in range(4)]
    return np.mean(recalls, 0)


@pytest.mark.parametrize("metric", ["top1", "balanced_accuracy"])
@pytest.mark.parametrize("seed_sd", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_intervals_cover_the_true_difference(num_seeds: int, seed_sd: float, metric: str):
    for interaction in (0.0, 0.5):
        rng = np.random.default_rng(11)
        estimate = statistics.two_level(*study_differences(rng, metric, num_seeds, seed_sd, interaction))
        covered = np.mean((estimate.low <= 0) & (estimate.high >= 0))
        print(
            f"{metric}, {num_seeds} seeds, spread {seed_sd}, interaction {interaction}: {covered:.1%}, width {np.mean(estimate.high - estimate.low):.3f}"
        )
        assert 0.93 <= covered <= 0.97
