"""Scores of a study with their intervals, as tables of numbers: shares from 0 to 1, one CSV file each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from skinaug.errors import InputError
from skinaug.progress import shown
from skinaug.report import artifacts, folds, planning, statistics
from skinaug.report.collect import Predictions, Study
from skinaug.report.statistics import Estimate, Sums, Variance
from skinaug.report.units import jobs_of

SCORES = {
    "top1": "Top-1",
    "top2": "Top-2",
    "top3": "Top-3",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "auroc": "AUROC",
}
MOST_SHOWN = 4  # arms side by side where classes or bins are told apart
IMPROVES, HARMS, UNDECIDED = "improves", "harms", "no difference shown"
Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class Measured:
    """Scores of every run, on the test set and on its resampled versions.

    Attributes:
        scores: by (arm, seed): name -> float, and `recall` -> [C].
        resampled: the same on B test sets, the same B for all runs: [B] and [B, C].
        seed: of the random draws.
        by_fold: by (arm, seed), scores of each fold; empty where there are no folds.
        test_to_training: patients, of repeated splits (`folds.test_to_training`).
    """

    scores: dict[tuple[str, int], Scores]
    resampled: dict[tuple[str, int], Scores]
    seed: int
    by_fold: Mapping[tuple[str, int], Sequence[folds.Scores]] = field(default_factory=dict)
    test_to_training: float | None = None

    def seeds(self, *arms: str) -> list[int]:
        """The seeds that all these arms have."""
        return sorted(
            set.intersection(*({seed for name, seed in self.scores if name == arm} for arm in arms))
        )

    def values(self, weights: Mapping[str, float], metric: str) -> tuple[np.ndarray, np.ndarray]:
        """A weighted sum of arms' scores at each seed that all of them have, paired by seed and by test patient.

        Args:
            weights: by arm; a difference is {arm: 1, baseline: -1}.

        Returns:
            float [S, ...] on the test set and [B, S, ...] on the resampled ones, of which all arms share each.
        """
        seeds = self.seeds(*weights)

        def sums(scores: dict[tuple[str, int], Scores]) -> list[np.ndarray]:
            return [np.sum([w * scores[arm, s][metric] for arm, w in weights.items()], 0) for s in seeds]

        return np.stack(sums(self.scores)), np.stack(sums(self.resampled), axis=1)

    def estimate(self, arm: str, metric: str) -> Estimate:
        """An arm's score: mean over seeds and 95 % interval, cut off at 0 and 1."""
        found = statistics.interval(*self.chance({arm: 1}, metric))
        return Estimate(found.mean, np.clip(found.low, 0, 1), np.clip(found.high, 0, 1))

    def difference(self, arm: str, baseline: str, metric: str) -> tuple[float, Variance]:
        """Arm less baseline, mean over the seeds that both have, and where its chance comes from."""
        mean, variance = self.chance({arm: 1, baseline: -1}, metric)
        return float(mean), variance

    def chance(self, weights: Mapping[str, float], metric: str) -> tuple[np.ndarray, Variance]:
        """Mean over seeds of a weighted sum of arms' scores, as `values`, and where its chance comes from: patients, seeds and, where
        there are folds or several splits, training sets."""
        scores, resampled = self.values(weights, metric)
        variance, by_fold = statistics.variance_of(scores, resampled), None
        if self.by_fold:
            seeds = self.seeds(*weights)
            each = [
                w * folds.mean_by_fold([self.by_fold[arm, seed] for seed in seeds], metric)
                for arm, w in weights.items()
            ]
            by_fold = np.sum(each, 0)
        return scores.mean(0), folds.with_training_sets(variance, resampled, by_fold, self.test_to_training)


@dataclass(frozen=True)
class Draws:
    """Test sets that are drawn anew, the same for all that a study measures.

    Attributes:
        groups: position of each test patient.
        counts: float [B, G], how often each patient was drawn.
    """

    groups: Mapping[str, int]
    counts: np.ndarray

    def sums(self, predictions: Predictions, terms: Sums) -> Sums:
        """What images add to scores, added up within each patient: [N, ...] to [G, ...]."""
        groups = np.array([self.groups[name] for name in predictions.groups])
        return statistics.group_sums(terms, groups, len(self.groups))

    def resample(self, sums: Sequence[Sums]) -> tuple[Sums, Sums]:
        """Sums of S seeds [G, ...] on the test set, [S, ...], and on the drawn ones, [B, S, ...]."""
        on_test, on_drawn = {}, {}
        for name, first in sums[0].items():
            same = all(
                np.array_equal(first, one[name]) for one in sums[1:]
            )  # such as the number of images: once for all
            each = np.stack([first] if same else [one[name] for one in sums], 1)
            shape = (len(sums), *first.shape[1:])
            on_test[name] = np.broadcast_to(each.sum(0), shape)
            drawn = statistics.resample({name: each}, self.counts)[name]
            on_drawn[name] = np.broadcast_to(drawn, (len(drawn), *shape))
        return on_test, on_drawn


def draw(runs: Sequence[Predictions], num_resamples: int, seed: int) -> Draws:
    """`num_resamples` sets of the images of some runs, whose patients are drawn with replacement."""
    names = sorted({group for predictions in runs for group in predictions.groups})
    rng = np.random.default_rng(seed)
    # One draw fewer than there are patients: as many would make the variance too small (Rao and Wu 1988, JASA 83:231).
    counts = statistics.draw_counts(len(names), max(1, len(names) - 1), num_resamples, rng)
    return Draws({name: position for position, name in enumerate(names)}, counts)


def measure(study: Study, num_resamples: int, seed: int) -> Measured:
    """Score every run on its test images and on `num_resamples` test sets whose patients are drawn with replacement."""
    draws = draw(study.predictions, num_resamples, seed)
    scores, resampled, by_fold = {}, {}, {}
    pairs = zip(study.runs, study.predictions, strict=True)
    for run, predictions in shown(pairs, "scoring runs", len(study.runs)):
        sums = draws.sums(predictions, folds.terms(predictions))
        if found := folds.fold_scores(run, predictions):
            by_fold[run.arm, run.seed] = found
        scores[run.arm, run.seed] = statistics.scores(statistics.total(sums))
        resampled[run.arm, run.seed] = statistics.scores(statistics.resample(sums, draws.counts))
    ratio = None if by_fold else folds.test_to_training(study)
    return Measured(scores, resampled, seed, by_fold, ratio)


def known_variance(scores: np.ndarray, resampled: np.ndarray) -> Variance:
    """`statistics.variance_of` of [S, K] and [B, S, K]: NaN where a seed has no score."""
    known = np.isfinite(scores).all(0)
    found = statistics.variance_of(scores[:, known], resampled[..., known])
    patients, seed, meeting = np.full((3, len(known)), np.nan)
    patients[known], seed[known], meeting[known] = found.patients, found.seed, found.meeting
    return Variance(patients, seed, found.num_seeds, meeting)


def share_interval(
    mean: np.ndarray, variance: Variance, patients: np.ndarray, level: float = statistics.LEVEL
) -> Estimate:
    """`statistics.interval` of shares of test images, within 0 and 1: [K].

    Where every image is right at every seed, or none is, nothing varies, and yet other patients might differ: there the
    interval is Clopper and Pearson's for as many independent patients (1934, Biometrika 26:404).

    Args:
        patients: int [K], those that have such images.
    """
    found = statistics.interval(mean, variance, level)
    with np.errstate(divide="ignore"):
        certain = (level / 2) ** (1 / patients)
    low = np.where(mean == 1, certain, np.clip(found.low, 0, 1))
    high = np.where(mean == 0, 1 - certain, np.clip(found.high, 0, 1))
    return Estimate(mean, low, high)


def shown_arms(arms: pl.DataFrame) -> list[str]:
    """The arms of an `arms_frame` that a detailed view has room for: all of a few, else baseline, best and worst by top-1."""
    if arms.height <= MOST_SHOWN:
        return arms["arm"].to_list()
    by_top1 = arms.sort("top1", descending=True)["arm"]
    return list(dict.fromkeys((*arms.filter("baseline")["arm"], by_top1[0], by_top1[-1])))


def metric_names(study: Study) -> list[str]:
    """The scores worth a column: top-k only where k is below the number of classes."""
    pointless = {f"top{k}" for k in statistics.TOPS if k > 1 and k >= len(study.classes)}
    return [name for name in SCORES if name not in pointless]


def verdict(low: float, high: float) -> str:
    """In words, whether a difference's interval, adjusted for the family that it belongs to, excludes 0."""
    return IMPROVES if low > 0 else HARMS if high < 0 else UNDECIDED


def arms_frame(study: Study, measured: Measured) -> pl.DataFrame:
    """One row an arm: seeds, training images a class (least and most), test images, every score with low and high.

    `real` images are distinct photographs; copies of them that stand in for synthetic images are `repeated`.
    """
    return pl.DataFrame([_arm_row(study, measured, arm) for arm in shown(study.arms, "intervals of arms")])


def _arm_row(study: Study, measured: Measured, arm: str) -> dict[str, Any]:
    images = pl.concat([artifacts.mix_table(job) for job in jobs_of(study.of(arm))])
    tests = [len({*p.images}) for run, p in zip(study.runs, study.predictions, strict=True) if run.arm == arm]
    row: dict[str, Any] = {"arm": arm, "baseline": arm == study.baseline, "seeds": len(measured.seeds(arm))}
    for source in ("real", "repeated", "synthetic"):
        row[f"{source}_min"], row[f"{source}_max"] = images[source].min(), images[source].max()
    row["test_images"] = max(tests)
    for name in metric_names(study):
        estimate = measured.estimate(arm, name)
        row |= {
            name: float(estimate.mean),
            f"{name}_low": float(estimate.low),
            f"{name}_high": float(estimate.high),
        }
    return row


DIFFERENCES = {
    "arm": pl.String,
    "baseline": pl.String,
    "seeds": pl.Int64,
    "metric": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "low_adjusted": pl.Float64,
    "high_adjusted": pl.Float64,
    "effect_size": pl.Float64,
    "detectable": pl.Float64,
    "seeds_needed": pl.Int64,
    "verdict": pl.String,
}


def differences_frame(study: Study, measured: Measured) -> pl.DataFrame:
    """One row an arm and score: what `differences` says of arm and baseline, over the seeds that both have.

    The family that a row is adjusted for is all arms of the sweep, for each score on its own: top-1 is the score that a
    study's verdicts stand on, the others explain it.
    """
    others = [(arm, study.baseline) for arm in study.arms if arm != study.baseline]
    return differences(study, measured, others)


def paired_frame(study: Study, measured: Measured, key: str) -> pl.DataFrame:
    """The same for arms that differ in nothing but one swept config key, each against the one with the key's first value.

    Raises:
        InputError: the sweep does not change that key.
    """
    settings = {arm: study.of(arm)[0].settings for arm in study.arms}
    values = list(dict.fromkeys(str(own.get(key)) for own in settings.values()))
    if len(values) < 2:
        swept = sorted({name for own in settings.values() for name in own})
        raise InputError(
            f"report.compare={key} is not swept here: swept are {', '.join(swept) or 'no keys'}."
        )

    def without(arm: str) -> dict[str, str]:
        return {name: str(value) for name, value in settings[arm].items() if name != key}

    first = [arm for arm in study.arms if str(settings[arm].get(key)) == values[0]]
    pairs = [
        (arm, baseline)
        for arm in study.arms
        for baseline in first
        if arm not in first and without(arm) == without(baseline)
    ]
    return differences(study, measured, pairs)


def differences(study: Study, measured: Measured, pairs: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Differences of pairs of arms, adjusted over all pairs for each score; pairs without a common seed are left out.

    Columns: `difference` with its own 95 % interval `low` to `high` and p-value `p`; `p_holm` and the interval
    `low_adjusted` to `high_adjusted`, which agree with each other and with `verdict`; `effect_size` (d_z over seeds);
    `detectable`, the smallest difference that the design had 80 % power to see at the family's level; `seeds_needed` for
    80 % power at that level, were the observed difference the true one; null where no number would do, or with one seed.
    """
    pairs = [pair for pair in pairs if measured.seeds(*pair)]
    rows = [row for metric in metric_names(study) for row in _family(measured, pairs, metric)]
    order = {pair: position for position, pair in enumerate(pairs)}
    rows.sort(key=lambda row: order[row["arm"], row["baseline"]])  # stable: scores keep their order
    return pl.DataFrame(rows, schema=DIFFERENCES)


def _family(measured: Measured, pairs: Sequence[tuple[str, str]], metric: str) -> Iterator[dict[str, Any]]:
    found = [measured.difference(*pair, metric) for pair in pairs]
    p = np.array([float(statistics.p_value(np.asarray(mean), variance)) for mean, variance in found])
    level = statistics.LEVEL / max(1, len(pairs))
    table = zip(pairs, found, p, statistics.holm(p), statistics.family_levels(p), strict=True)
    for (arm, baseline), (mean, variance), own, adjusted, own_level in table:
        alone = statistics.interval(np.asarray(mean), variance)
        joint = statistics.interval(np.asarray(mean), variance, own_level)
        effect = float(statistics.effect_size(np.asarray(mean), variance))
        yield {
            "arm": arm,
            "baseline": baseline,
            "seeds": variance.num_seeds,
            "metric": metric,
            "difference": mean,
            "low": float(alone.low),
            "high": float(alone.high),
            "p": float(own),
            "p_holm": float(adjusted),
            "low_adjusted": float(joint.low),
            "high_adjusted": float(joint.high),
            "effect_size": None if np.isnan(effect) else effect,
            "detectable": float(planning.detectable(variance, level)),
            "seeds_needed": planning.seeds_needed(mean, variance, level),
            "verdict": verdict(float(joint.low), float(joint.high)),
        }


def recall_frame(study: Study, measured: Measured) -> pl.DataFrame:
    """One row an arm and class: recall with low and high."""
    rows = []
    for arm in study.arms:
        estimate = measured.estimate(arm, "recall")
        for i, label in enumerate(study.classes):
            rows.append(
                (arm, label, float(estimate.mean[i]), float(estimate.low[i]), float(estimate.high[i]))
            )
    schema = {
        "arm": pl.String,
        "label": pl.String,
        "recall": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def runs_frame(study: Study, measured: Measured) -> pl.DataFrame:
    """One row a job, those that are missing or have failed included: images, steps, seconds, validation and test scores."""
    rows = []
    in_order = sorted(
        zip(study.runs, study.validation, strict=True),
        key=lambda pair: (study.arms.index(pair[0].arm), pair[0].seed),
    )
    for run, predictions in in_order:
        saved = artifacts.metrics(run)
        on_validation = saved["val"] or _scores(predictions)
        train = {name: value for name, value in saved["train"].items() if isinstance(value, int | float)}
        validation = {f"val_{name}": on_validation.get(name) for name in ("top1", "balanced_accuracy")}
        test = {name: float(measured.scores[run.arm, run.seed][name]) for name in metric_names(study)}
        about = {"experiment": run.experiment, "arm": run.arm, "seed": run.seed, "status": "finished"}
        rows.append({**about, **train, **validation, **test, "folder": str(run.folder or "")})
    rows += [
        {"experiment": study.experiment, "arm": arm, "seed": seed, "status": "missing"}
        for arm, seed in study.missing
    ]
    rows += [
        {"experiment": run.experiment, "arm": run.arm, "seed": run.seed, "status": "failed"}
        for run in study.failed
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _scores(predictions: Predictions) -> dict[str, float]:
    """Scores of a run on some images; none of no images."""
    if not predictions.images:
        return {}
    found = statistics.scores(statistics.total(folds.terms(predictions)))
    return {name: float(found[name]) for name in SCORES}


def confusion(study: Study, arm: str) -> np.ndarray:
    """Share of a true class (row) that goes to each class (column), over an arm's seeds: float [C, C], rows add to 1."""
    num_classes = len(study.classes)
    counts = np.zeros((num_classes, num_classes))
    for run, predictions in zip(study.runs, study.predictions, strict=True):
        if run.arm == arm:
            np.add.at(counts, (predictions.labels, predictions.probabilities.argmax(1)), 1)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(1, keepdims=True)
