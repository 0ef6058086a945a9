"""What the figures say, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from skinaug.report import collect
from skinaug.report.collect import Study
from skinaug.report.measure import UNDECIDED
from skinaug.report.tables import number, percent, points, seen

RESEARCH_USE_ONLY = (
    "For research use only: not a medical device, and no basis for any decision about a patient."
)


def headline(study: Study, arms: pl.DataFrame, differences: pl.DataFrame) -> str:
    """The verdict in one paragraph; an arm improves or harms only where its 95 % interval excludes 0."""
    base = arms.row(by_predicate=pl.col("arm") == study.baseline, named=True)
    first = (
        f"On {number(base['test_images'])} real test images of {len(study.classes)} classes, {study.baseline} is right in "
        f"{percent(base['top1'])} % (95 % interval {percent(base['top1_low'])} to {percent(base['top1_high'])} %, "
        f"{plural(base['seeds'], 'seed')})."
    )
    by_top1 = differences.filter(pl.col("metric") == "top1").sort("difference", descending=True)
    sentences = [_sentence(row) for row in by_top1.iter_rows(named=True)]
    return " ".join([first, *sentences, *_second_opinion(differences)])


def _sentence(row: dict[str, Any]) -> str:
    change = (
        f"{points(row['difference'])} points, 95 % interval {points(row['low'])} to {points(row['high'])}"
    )
    if row["verdict"] == UNDECIDED:
        return f"{row['arm']}: no difference shown ({change})."
    return f"{row['arm']} {row['verdict']} top-1 ({change})."


def _second_opinion(differences: pl.DataFrame) -> list[str]:
    """Where balanced accuracy says otherwise than top-1."""
    verdicts = {(row["arm"], row["metric"]): row["verdict"] for row in differences.iter_rows(named=True)}
    arms = differences["arm"].unique(maintain_order=True)
    other = {arm: verdicts[arm, "balanced_accuracy"] for arm in arms}
    odd = [f"{arm} ({words})" for arm, words in other.items() if words != verdicts[arm, "top1"]]
    return [f"Balanced accuracy says otherwise of {', '.join(odd)}."] if odd else []


def notes(study: Study, arms: pl.DataFrame, differences: pl.DataFrame) -> list[str]:
    """What a reader must know before believing the headline."""
    return [*_missing(study), *_intervals(arms, differences), *_test_sets(study), *_exposures(study)]


def _missing(study: Study) -> list[str]:
    if not study.missing:
        return []
    jobs = ", ".join(f"{arm} (seed {seed})" for arm, seed in study.missing)
    return [f"{plural(len(study.missing), 'job')} failed or did not finish, and {'is' if len(study.missing) == 1 else 'are'} "
            f"not in these figures: {jobs}."]  # fmt: skip


def _intervals(arms: pl.DataFrame, differences: pl.DataFrame) -> Iterable[str]:
    fewest, compared = arms["seeds"].min(), differences["arm"].n_unique()
    if fewest == 1:
        yield "An arm with one seed: its interval covers the choice of test images, not the chance of training."
    elif fewest is not None and fewest < 5:  # type: ignore[operator]
        yield f"With {fewest} seeds an arm, the chance of training is known only roughly."
    if compared > 1:
        yield f"{compared} arms are compared with the baseline; the intervals are not adjusted for that number."


def _test_sets(study: Study) -> Iterable[str]:
    sets = {seed: {frozenset(p.images) for r, p in zip(study.runs, study.predictions, strict=True) if r.seed == seed}
            for seed in {run.seed for run in study.runs}}  # fmt: skip
    if any(len(different) > 1 for different in sets.values()):
        yield "The arms were not tested on the same images: only the images that they share are paired."


def _exposures(study: Study) -> Iterable[str]:
    """Arms whose synthetic images know more of the real data than the arm's own real images tell."""
    for arm in study.arms:
        run = study.of(arm)[0]
        own, known = int(collect.mix_table(run)["real"].sum()), seen(run)
        if collect.mix_table(run)["synthetic"].sum() > 0 and known > own:
            yield (
                f"{arm} trains on {plural(own, 'real image')}, but its generator and filters have seen {number(known)}: "
                f"what it gains may come from those."
            )


def plural(count: int, noun: str) -> str:
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"
