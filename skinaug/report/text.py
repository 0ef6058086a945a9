"""What the figures say, in sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from skinaug.errors import plural
from skinaug.leaks.lineage import COPY_OF
from skinaug.report import artifacts, collect, margin, tables
from skinaug.report.collect import Study
from skinaug.report.exposure import seen, seers
from skinaug.report.measure import HARMS, IMPROVES, UNDECIDED
from skinaug.report.statistics import half_width
from skinaug.report.tables import number, percent, points

RESEARCH_USE_ONLY = (
    "For research use only: not a medical device, and no basis for any decision about a patient."
)

MOST_TOLD = 3  # arms of one verdict that the headline names one by one
MOST_NAMED = 4  # arms that a note names
MOST_MISSING = 12  # jobs that a note names


class Sentence(NamedTuple):
    """An arm and what is said of it."""

    arm: str
    rest: str


def headline(study: Study, arms: pl.DataFrame, differences: pl.DataFrame) -> list[Sentence]:
    """The verdict, a sentence an arm; an arm improves or harms only where its adjusted 95 % interval excludes 0.

    Arms of one verdict are counted instead where there are too many for a paragraph.
    """
    return [_baseline(study, arms), *_verdicts(differences)]


def pairs(paired: pl.DataFrame, key: str) -> list[Sentence]:
    """The same of arms that differ in one config key alone, each against the one with the key's first value."""
    return [Sentence(f"Pair by pair, where {key} alone differs:", ""), *_verdicts(paired, in_pairs=True)]


def _verdicts(differences: pl.DataFrame, in_pairs: bool = False) -> list[Sentence]:
    by_top1 = differences.filter(pl.col("metric") == "top1").sort("difference", descending=True)
    parts = [by_top1.filter(pl.col("verdict") == verdict) for verdict in (IMPROVES, HARMS, UNDECIDED)]
    crowds = [part for part in parts if part.height > MOST_TOLD]
    counted = [part["verdict"][0] for part in crowds]
    named = by_top1.filter(~pl.col("verdict").is_in(counted))
    return [
        *(_verdict(row, in_pairs) for row in named.iter_rows(named=True)),
        *(_crowd(part, others=part.height < by_top1.height) for part in crowds),
    ]


def _baseline(study: Study, arms: pl.DataFrame) -> Sentence:
    row = arms.row(by_predicate=pl.col("arm") == study.baseline, named=True)
    interval = f"95 % interval {percent(row['top1_low'])} to {percent(row['top1_high'])} %"
    images = (
        f"{plural(row['test_images'], 'real test image')} of {plural(len(study.classes), 'class', 'classes')}"
    )
    names = f", the baseline, names the class of {percent(row['top1'])} % of {images} correctly"
    return Sentence(study.baseline, f"{names} ({interval}; {plural(row['seeds'], study.unit)}).")


def _crowd(part: pl.DataFrame, others: bool) -> Sentence:
    """One sentence for many arms of one verdict, sorted by their difference from the highest."""
    verdict = part["verdict"][0]
    if verdict == UNDECIDED:
        widths = sorted(part["detectable"].to_list())
        least, most = percent(widths[0]), percent(widths[-1])
        seen_from = f"±{least}" if least == most else f"±{least} to ±{most}"
        name = f"{part.height} other arms" if others else f"All {part.height} other arms"
        rest = f": {UNDECIDED} in top-1 (could have seen {seen_from} points){margin.crowd_clause(part)}."
        return Sentence(name, rest)
    row = part.row(0 if verdict == IMPROVES else -1, named=True)
    weakest = part["difference"][-1 if verdict == IMPROVES else 0]
    bounds = f"{points(row['low_adjusted'])} to {points(row['high_adjusted'])}"
    change = f"by {points(weakest)} to {points(row['difference'])} points"
    return Sentence(
        f"{part.height} arms",
        f" {verdict.removesuffix('s')} top-1, {change} (most of all {row['arm']}, 95 % interval {bounds})"
        f"{margin.crowd_clause(part) if verdict == HARMS else ''}.",
    )


def _verdict(row: Mapping[str, Any], in_pairs: bool) -> Sentence:
    bounds = f"{points(row['low_adjusted'])} to {points(row['high_adjusted'])}"
    change = f"{points(row['difference'])} points, 95 % interval {bounds}"
    against = f" against {row['baseline']}" if in_pairs else ""
    if row["verdict"] == UNDECIDED:
        seen_from = f"could have seen ±{percent(row['detectable'])}"
        said = f"{against}: {UNDECIDED} in top-1 ({change}; {seen_from})"
    else:
        said = f" {row['verdict']} top-1{against} ({change})"
    return Sentence(row["arm"], f"{said}{margin.clause(row)}.")


def notes(study: Study, arms: pl.DataFrame, differences: pl.DataFrame) -> list[str]:
    """What a reader must know before believing the headline."""
    return [
        *_missing(study),
        *_second_opinion(differences),
        *_intervals(study, arms, differences),
        *_test_sets(study),
        *_patients(study),
        *shared_copies(study),
        *_accuracy_scores(study),
        *_exposures(study),
    ]


def _missing(study: Study) -> Iterator[str]:
    if study.missing:
        named = [f"{arm} (seed {seed})" for arm, seed in study.missing[:MOST_MISSING]]
        more = len(study.missing) - len(named)
        jobs = ", ".join(named) + f" and {more} more, in the table of runs" * bool(more)
        if study.artifacts("classify"):
            count = plural(len(study.missing), "job")
            yield f"{count} failed or did not finish, and no figure here counts them: {jobs}."
        else:
            yield f"Without predictions, though other arms or seeds have them: {jobs}."


def _second_opinion(differences: pl.DataFrame) -> Iterator[str]:
    """Where balanced accuracy says otherwise than top-1."""
    verdicts = {(row["arm"], row["metric"]): row["verdict"] for row in differences.iter_rows(named=True)}
    others = {
        arm: verdicts[arm, "balanced_accuracy"]
        for arm in differences["arm"].unique(maintain_order=True)
        if verdicts[arm, "balanced_accuracy"] != verdicts[arm, "top1"]
    }
    if len(others) > MOST_NAMED:
        yield f"By balanced accuracy the verdict on {len(others)} arms is another: their intervals stand in the table."
        return
    for arm, other in others.items():
        yield f"By balanced accuracy the verdict on {arm} is another: {other}."


def _intervals(study: Study, arms: pl.DataFrame, differences: pl.DataFrame) -> Iterator[str]:
    fewest, compared = min(arms["seeds"].to_list()), differences["arm"].n_unique()
    folded = any(run.parts for run in study.runs)  # folds tell of training too
    if fewest == 1 and not folded:
        yield "Where an arm has one seed, its interval covers the choice of test images and not the chance of training."
    elif 1 < fewest < 5:
        yield (
            f"With {fewest} {study.unit}s an arm, the chance of training is known only roughly, and intervals are wide for that "
            f"reason: more {study.unit}s narrow them."
        )
        if fewest == 2 and compared > 1:
            yield (
                "With 2 seeds the adjustment for many arms does not hold what it promises: among 50 arms that were all alike, one "
                "was found to differ in up to 21 % of simulated studies, and with 3 seeds or more in 6 %."
            )
    if compared > 1:
        yield (
            f"{compared} arms are compared with the baseline: the intervals of differences are adjusted for that number (Holm)."
        )


def _test_sets(study: Study) -> Iterator[str]:
    images: dict[int, set[frozenset[str]]] = {}
    for run, predictions in zip(study.runs, study.predictions, strict=True):
        images.setdefault(run.seed, set()).add(frozenset(predictions.images))
    if any(len(sets) > 1 for sets in images.values()):
        yield "The arms were not all tested on the same images: differences pair only the patients that they share."


def _patients(study: Study) -> Iterator[str]:
    """Where nobody has told which images are of one patient."""
    if all(predictions.groups == predictions.images for predictions in study.predictions):
        yield (
            "No patients are told: each test image counts as a patient of its own, and where patients have several images, "
            "intervals are narrower than they should be."
        )


def shared_copies(study: Study) -> Iterator[str]:
    """Pictures that the data's own splits shared, and that were dropped."""
    for folder in study.artifacts("dataset"):
        file = folder / "summary.json"
        dropped = json.loads(file.read_text())["dropped"] if file.is_file() else {}
        for split, gone in (("test", "training or validation"), ("val", "training")):
            if count := dropped.get(COPY_OF.format(split)):
                words = {"test": "test", "val": "validation"}[split]
                yield (
                    f"{plural(count, f'{gone} photograph')} {'are' if count > 1 else 'is'} left out, near-copies of {words} "
                    "photographs in the data's own splits."
                )


def left_out(study: Study, subgroups: pl.DataFrame) -> list[str]:
    """Why sections are missing, a sentence for each reason.

    subgroups: `subgroups.subgroups_frame` of the same study.
    """
    reasons = []
    if not study.artifacts("classify"):
        reasons.append(
            "Left out: training images, pictures, learning curves, filters, audits, what generator and filters have seen, leak "
            "certificate and cost, because these predictions were made elsewhere and do not tell how. That no test image was trained on "
            "is not shown either."
        )
        if subgroups.is_empty():
            reasons.append(
                "Left out: subgroups of patients, because no column skin_type, body_site, sex or age tells them apart."
            )
    if not study.validated:
        reasons.append(
            "Left out: each class against the rest, because its thresholds come from validation images, and not all runs have "
            "predictions of them (split=val)."
        )
    return reasons


def _accuracy_scores(study: Study) -> Iterator[str]:
    """Arms without real images: what they measure has a name."""
    mixes = {arm: artifacts.mix_table(study.of(arm)[0]) for arm in study.arms}
    alone = [arm for arm, mix in mixes.items() if mix["real"].sum() == 0 and mix["synthetic"].sum() > 0]
    if alone and len(alone) <= MOST_NAMED:
        yield (
            f"The top-1 of {collect.listed(alone)} is the classification accuracy score of the pool: trained on synthetic, judged on "
            "real images (Ravuri and Vinyals 2019)."
        )


def _exposures(study: Study) -> Iterator[str]:
    """Arms whose synthetic images rest on more real images than the arms themselves train on."""
    alike: dict[tuple[int, int, str], list[str]] = {}
    for arm in study.arms:
        run = study.of(arm)[0]
        mix = artifacts.mix_table(run)
        if mix["synthetic"].sum() > 0:
            alike.setdefault((int(mix["real"].sum()), seen(run), seers(run)), []).append(arm)
    owing = {key: arms for key, arms in alike.items() if key[1] > key[0]}
    if sum(len(arms) for arms in owing.values()) > MOST_NAMED:
        owns, knowns = sorted(key[0] for key in owing), sorted(key[1] for key in owing)
        whos = sorted({who for _, _, who in owing})
        count = sum(len(arms) for arms in owing.values())
        yield (
            f"{count} arms train on {tables.span(owns[0], owns[-1])} real images, but {' or '.join(whos)} have seen "
            f"{tables.span(knowns[0], knowns[-1])}: their scores owe something to those."
        )
        return
    for (own, known, who), arms in owing.items():
        images = plural(own, "real image") if own else "no real image"
        who_trains = f"{collect.listed(arms)} train{'s' * (len(arms) == 1)}"
        have = "has" if who == "generator" else "have"
        yield f"{who_trains} on {images}, but {who} {have} seen {number(known)}: the score owes something to those."


def drawn_note(study: Study, drawn: Sequence[str]) -> str:
    """Which arms the figures show, where not all; empty where all."""
    if len(drawn) == len(study.arms):
        return ""
    return (
        f"Of {len(study.arms)} arms, figures show {study.baseline} and the {(len(drawn) - 1) // 2} with the highest and the "
        "lowest top-1 each; tables and CSV files have all of them."
    )


def published_reading(published: Mapping[str, Any], baseline: str) -> str:
    """Which published arms differ from the baseline in top-1, were their test images independent."""
    rows = {row["arm"]: row for row in published["rows"]}
    if baseline not in rows or len(rows) < 2:
        return ""
    apart = {
        arm: _differs(row, rows[baseline], published["test_images"])
        for arm, row in rows.items()
        if arm != baseline
    }
    yes, no = ([arm for arm, differs in apart.items() if differs is wanted] for wanted in (True, False))
    reading = f"Unpaired (their predictions are not published), top-1 sets {', '.join(yes) or 'no arm'} apart from {baseline}"
    return f"{reading}; it does not set apart {', '.join(no)}." if no else f"{reading}."


def _differs(row: Mapping[str, Any], other: Mapping[str, Any], num_images: int) -> bool:
    """Whether two independent shares of `num_images` differ by more than the 95 % half-width of their difference."""
    shares = [row["top1"] / 100, other["top1"] / 100]
    widths = [half_width(share, num_images) for share in shares]
    return abs(shares[0] - shares[1]) > (widths[0] ** 2 + widths[1] ** 2) ** 0.5
