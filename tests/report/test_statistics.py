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
    return statistics.two_level(
        right.mean(1), np.stack(hits, 1) / images[:, None], np.random.default_rng(seed)
    )


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


def test_variance_between_seeds_is_unbiased_when_seeds_alone_differ():
    right = np.repeat([[0.2], [0.5], [0.8]], 50, axis=1)
    counts = statistics.draw_counts(3, 2, 100_000, np.random.default_rng(8)) / 2
    assert (counts @ right[:, 0]).var() == pytest.approx(right[:, 0].var(ddof=1) / 3, rel=0.02)


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


@pytest.mark.parametrize(
    ("num_seeds", "seed_sd", "bounds"),
    [(1, 0.0, (0.91, 0.98)), (3, 0.1, (0.93, 1.0)), (5, 0.2, (0.91, 1.0))],
)
def test_intervals_cover_the_true_difference(num_seeds: int, seed_sd: float, bounds: tuple[float, float]):
    """Simulated studies of two equally good arms: images differ in difficulty, seeds in luck (0.1 is about 2.7 points)."""
    rng = np.random.default_rng(11)
    covered = []
    for study in range(300):
        difficulty = rng.normal(size=200)
        luck = rng.normal(0, seed_sd, (2, num_seeds, 1))
        right = difficulty + luck + rng.normal(size=(2, num_seeds, 200)) > 0
        estimate = interval(right[0].astype(float) - right[1], np.arange(200), seed=study, num_resamples=400)
        covered.append(estimate.low <= 0 <= estimate.high)
    assert bounds[0] <= np.mean(covered) <= bounds[1]
