"""Simulated studies of folds and of repeated splits, with classifiers that learn: does an interval cover the score that the procedure
has on average, over patients and over the photographs that it learns from? The figures are those of experiments/statistics.md."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from skinaug.report import folds, statistics

pytestmark = pytest.mark.slow

NUM_STUDIES, NUM_RESAMPLES = 1000, 300
KEPT = 0.5  # share of the training photographs that an arm has
NOISE = 0.5  # of the pool's mean, beside the distance 1 of a class from its mean in every direction


class Design(NamedTuple):
    """Studies: patients with a picture each, of two classes `apart` in one of `dimensions`, judged in `tests` tests at each seed."""

    patients: int
    dimensions: int
    apart: float
    tests: int
    seeds: int
    test_share: float | None = None  # of a split that is drawn anew for each test; None: folds


def held_out_sets(design: Design, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool [T, N]: folds, or splits of which each is drawn anew; both stratified."""
    found = np.zeros((design.tests, design.patients), bool)
    for test in range(design.tests):
        for label in (0, 1):
            own = rng.permutation(np.flatnonzero(labels == label))
            if design.test_share is not None:
                found[test, own[: round(design.test_share * len(own))]] = True
            elif test == 0:
                for place, patient in enumerate(own):
                    found[place % design.tests, patient] = True
    return found


def verdicts(design: Design, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Whether two arms are right, float [2, T, S, N], and who is tested, bool [T, N].

    An arm names the class whose mean is nearer. The first knows half of the training photographs, which each seed draws; the second has
    besides a pool, that was made from all of them with an error of its own.
    """
    labels = np.arange(design.patients) % 2
    pictures = rng.normal(size=(design.patients, design.dimensions))
    pictures[:, 0] += design.apart * (labels - 0.5)
    tests = held_out_sets(design, labels, rng)
    right = np.zeros((2, *tests.shape[:1], design.seeds, design.patients))
    for test, held_out in enumerate(tests):
        train = [np.flatnonzero(~held_out & (labels == label)) for label in (0, 1)]
        for seed in range(design.seeds):
            kept = [rng.choice(own, round(KEPT * len(own)), replace=False) for own in train]
            real = np.stack([pictures[own].mean(0) for own in kept])
            pool = np.stack([pictures[own].mean(0) for own in train]) + NOISE * rng.normal(size=real.shape)
            for arm, means in enumerate((real, (real + pool) / 2)):
                nearer = ((pictures[held_out, None] - means) ** 2).sum(2).argmin(1)
                right[arm, test, seed, held_out] = nearer == labels[held_out]
    return right, tests


def covered(design: Design, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Of 95 % intervals, the share that covers the mean over all studies, without and with what training sets bring; of the score of the
    first arm and of the difference of the second to it."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(NUM_STUDIES):
        right, tests = verdicts(design, rng)
        counts = statistics.draw_counts(design.patients, design.patients - 1, NUM_RESAMPLES, rng)
        if design.test_share is None:  # one run a seed, over all patients
            right, of = right.sum(1), np.ones((design.seeds, design.patients))
        else:  # one a split, with the seeds in it
            right, of = right.mean(2), tests.astype(float)
        drawn = counts @ of.T
        arms = right.sum(2) / of.sum(1)  # [2, units]
        on_drawn = np.stack([(counts @ arm.T) / drawn for arm in right])  # [2, B, units]
        by_fold = right.mean(1) @ tests.T / tests.sum(1)  # [2, K], of folds alone
        found.append((arms, on_drawn, by_fold))
    arms, on_drawn, by_fold = (np.stack(part, -1) for part in zip(*found, strict=True))
    ratio = None if design.test_share is None else design.test_share / (1 - design.test_share)
    shares = {}
    for name, weights in {"score": (1, 0), "difference": (-1, 1)}.items():
        scores, resampled, each = (np.tensordot(weights, part, (0, 0)) for part in (arms, on_drawn, by_fold))
        variance, truth = statistics.variance_of(scores, resampled), scores.mean()
        wide = folds.with_training_sets(variance, resampled, each if ratio is None else None, ratio)
        intervals = [statistics.interval(scores.mean(0), one) for one in (variance, wide)]
        without, within = (float(np.mean((one.low <= truth) & (truth <= one.high))) for one in intervals)
        shares[name] = (without, within)
    return shares


FOLDS = [
    Design(patients, dimensions, apart, 5, seeds)
    for patients, dimensions, apart in ((100, 10, 2.0), (200, 10, 2.0), (400, 5, 1.5))
    for seeds in (1, 3, 5)
]
SPLITS = [
    Design(patients, dimensions, apart, 5, 2, 0.25)
    for patients, dimensions, apart in ((100, 10, 2.0), (200, 10, 2.0), (400, 5, 1.5))
]


@pytest.mark.parametrize("design", FOLDS, ids=str)
def test_intervals_over_folds_cover_what_the_procedure_does_on_average(design: Design):
    found = covered(design)
    print(design, found)
    assert 0.93 <= found["difference"][1] <= 0.985
    assert 0.92 <= found["score"][1] <= 0.985


@pytest.mark.parametrize("design", SPLITS, ids=str)
def test_intervals_over_splits_cover_what_the_procedure_does_on_average(design: Design):
    found = covered(design)
    print(design, found)
    assert all(within >= 0.93 for _, within in found.values())
    assert all(within >= without for without, within in found.values())
