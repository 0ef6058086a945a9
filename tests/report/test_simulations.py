"""Simulated studies of many arms: coverage, false alarms of families and at the margin. Their figures: experiments/statistics.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from skinaug.report import statistics
from tests.report.test_statistics import study_differences

pytestmark = pytest.mark.slow

STUDIES, PATIENTS, RESAMPLES, EASE = 1000, 120, 400, 0.3


class Arms(NamedTuple):
    """What simulated arms are like, all in probits: 0.1 is about 2.7 points of top-1.

    Attributes:
        luck: of each arm, how much its seeds differ.
        gains: of each arm.
        common: how much patients differ for all arms alike.
        meeting: how differently arms meet patients.
    """

    luck: Sequence[float]
    gains: Sequence[float]
    common: float = 1.0
    meeting: float = 0.0

    def truth(self) -> np.ndarray:
        """The top-1 of each arm over all patients and seeds."""
        spread = self.common**2 + self.meeting**2 + np.square(self.luck) + 1
        return stats.norm.cdf((EASE + np.array(self.gains)) / np.sqrt(spread))


def studies(
    arms: Arms, num_seeds: int, seed: int, count: int = STUDIES
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Top-1 of arms with seeds of their own on the same 120 patients of 1 to 4 images: [S, arms], and on resampled test sets
    [B, S, arms]. Of the chance of one judgement of an image, a fifth is the image's, and the rest the seed's."""
    rng, luck, gains = np.random.default_rng(seed), np.array(arms.luck), np.array(arms.gains)
    for _ in range(count):
        groups = np.repeat(np.arange(PATIENTS), rng.integers(1, 5, PATIENTS))
        starts, images = np.unique(groups, return_index=True, return_counts=True)[1:]
        counts = statistics.draw_counts(PATIENTS, PATIENTS - 1, RESAMPLES, rng)
        weights = np.concatenate([np.ones((1, PATIENTS)), counts])  # the test set as it is, and resampled
        patient = arms.common * rng.normal(size=PATIENTS) + arms.meeting * rng.normal(
            size=(len(luck), PATIENTS)
        )
        logit = EASE + (gains + luck * rng.normal(size=(num_seeds, len(luck))))[..., None]
        logit = logit + patient[:, groups] + 0.2**0.5 * rng.normal(size=len(groups))
        logit += 0.8**0.5 * rng.normal(size=logit.shape)
        hits = np.add.reduceat((logit > 0).astype(float), starts, axis=-1)
        top1 = np.tensordot(weights, hits, (1, -1)) / (weights @ images)[:, None, None]
        yield top1[0], top1[1:]


@pytest.mark.parametrize("luck", [0, 0.1, 0.3])
@pytest.mark.parametrize("common", [0, 0.3, 1])
@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_an_arms_interval_covers_and_is_never_far_narrower_than_patients_make_it(
    num_seeds: int, common: float, luck: float
):
    arms = Arms([luck] * 5, [0] * 5, common)
    covered, narrow = [], []
    for scores, resampled in studies(arms, num_seeds, 1, STUDIES // 5):
        found = statistics.two_level(scores, resampled)
        covered += [*((found.low <= arms.truth()) & (arms.truth() <= found.high))]
        alone = stats.norm.ppf(0.975) * resampled.mean(1).std(0, ddof=1)
        narrow += [*((found.high - found.low) / 2 < 0.66 * alone)]
    print(f"{num_seeds} seeds, patients {common}, luck {luck}: covered {np.mean(covered):.3f}")
    assert not any(narrow)
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize(
    ("num_arms", "num_seeds"), [(50, 3), (12, 3), (3, 3), (50, 5), (3, 5), (50, 10)], ids=str
)
@pytest.mark.parametrize("luck", [0, 0.3, "one in ten noisier", "baseline quieter", "baseline noisier"])
def test_a_family_without_a_difference_has_one_in_5_percent(num_arms: int, num_seeds: int, luck: float | str):
    each = np.full(num_arms + 1, luck if isinstance(luck, int | float) else 0.3)
    each[5::10] = 0.9 if luck == "one in ten noisier" else each[5::10]
    each[0] = {"baseline quieter": 0.05, "baseline noisier": 0.9}.get(str(luck), each[0])
    # A noisier arm that is as good on average: what noise takes away is given back.
    spread = np.sqrt((1 + 0.04 + each**2 + 1) / (1 + 0.04 + each[0] ** 2 + 1))
    arms = Arms(each.tolist(), (EASE * (spread - 1)).tolist(), meeting=0.2)
    assert arms.truth() == pytest.approx(np.full(num_arms + 1, arms.truth()[0]))
    wrong = []
    for scores, resampled in studies(arms, num_seeds, 2):
        differences, drawn = scores[:, 1:] - scores[:, :1], resampled[..., 1:] - resampled[..., :1]
        p = statistics.p_value(differences.mean(0), statistics.variance_of(differences, drawn))
        wrong.append((statistics.holm(p) < statistics.LEVEL).any())
    print(f"{num_arms} arms, {num_seeds} seeds, luck {luck}: {np.mean(wrong):.3f}")
    assert np.mean(wrong) <= 0.07


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize(("luck", "meeting"), [(0, 0), (0.1, 0.5), (0.2, 0.2), (0.5, 0)])
def test_at_the_margins_edge_5_percent_of_studies_claim_one_or_the_other(
    num_seeds: int, luck: float, meeting: float
):
    """The arm is worse by exactly the margin: neither "not worse by more" nor "worse by more" is true."""
    loss, spread = -0.2, np.sqrt(1 + meeting**2 + luck**2 + 0.25 + 1)
    margin = stats.norm.cdf(EASE / spread) - stats.norm.cdf((EASE + loss) / spread)
    found = statistics.two_level(
        *study_differences(np.random.default_rng(3), "top1", num_seeds, luck, meeting, loss)
    )
    not_inferior, inferior = np.mean(found.low > -margin), np.mean(found.high < -margin)
    equivalent = np.mean((found.low > -margin) & (found.high < margin))
    print(
        f"{num_seeds} seeds, luck {luck}, meeting {meeting}, margin {100 * margin:.1f}: not inferior {not_inferior:.3f}, "
        f"inferior {inferior:.3f}, equivalent {equivalent:.3f}"
    )
    assert 0.03 <= not_inferior + inferior <= 0.07
    assert equivalent <= not_inferior <= 0.045


@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize("edges", ["all", "half"])
def test_a_family_at_the_margins_edge_makes_one_claim_too_many_in_5_percent(num_seeds: int, edges: str):
    """All arms are worse by exactly the margin; or half of them are, and the others are better by twice as much."""
    gains = [0, *([-0.3] * 6 if edges == "all" else [-0.3, 0.6] * 3)]
    arms = Arms([0.2] * 7, gains, meeting=0.2)
    margin = arms.truth()[0] - arms.truth()[1]
    at_edge = np.isclose(arms.truth()[1:], arms.truth()[0] - margin)
    wrong = []
    for scores, resampled in studies(arms, num_seeds, 4):
        differences, drawn = scores[:, 1:] - scores[:, :1], resampled[..., 1:] - resampled[..., :1]
        variance = statistics.variance_of(differences, drawn)
        levels = statistics.family_levels(statistics.p_value(differences.mean(0), variance))
        found = statistics.interval(differences.mean(0), variance, levels)
        wrong.append(((found.low > -margin) | (found.high < -margin))[at_edge].any())
    print(f"6 arms, {num_seeds} seeds, {edges}, margin {100 * margin:.1f}: {np.mean(wrong):.3f}")
    assert np.mean(wrong) <= 0.07
