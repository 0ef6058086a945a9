"""What a report says beyond the one verdict: tables under headings of their own, for all who ask for more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import polars as pl

from skinaug.report import calibration, fairness, measure, ranking, tables, temperature, thresholds
from skinaug.report.collect import Study
from skinaug.report.measure import Draws
from skinaug.report.settings import Asked
from skinaug.report.tables import Table

GROUPS = "groups/"  # in front of the names of what is said of groups of classes
Frames = Mapping[str, pl.DataFrame]


class Part(NamedTuple):
    """A table that is shown on demand.

    Attributes:
        name: of its CSV and LaTeX files.
        title, about: over it.
    """

    name: str
    title: str
    about: str
    table: Table


def frames(study: Study, draws: Draws, asked: Asked) -> dict[str, pl.DataFrame]:
    """Each class against the rest, and what else was asked for, by the names of CSV files."""
    found = _of_classes(study, draws, asked)
    if asked.temperature:
        found["temperature"] = temperature.temperature_frame(study, draws)
    return found


def group_frames(
    study: Study, draws: Draws, asked: Asked, num_resamples: int, seed: int
) -> dict[str, pl.DataFrame]:
    """The same of groups of classes, with the scores and differences of all arms; nothing where none were asked for."""
    if not asked.groups:
        return {}
    grouped = replace(study, groups=asked.grouped(study.classes))
    measured = measure.measure(grouped, num_resamples, seed)
    found = {
        "arms": measure.arms_frame(grouped, measured),
        "differences": measure.differences_frame(grouped, measured),
        "recall": measure.recall_frame(grouped, measured),
        "calibration": calibration.calibration_frame(grouped, draws),
        "operating_points": calibration.operating_points_frame(grouped, draws),
        **_of_classes(grouped, draws, asked),
    }
    return {GROUPS + name: frame for name, frame in found.items()}


def _of_classes(study: Study, draws: Draws, asked: Asked) -> dict[str, pl.DataFrame]:
    found = {
        "ranking": ranking.ranking_frame(study, draws),
        "thresholds": thresholds.thresholds_frame(study, draws),
    }
    prevalence = {
        name: float(share) for name, share in (asked.prevalence or {}).items() if name in study.classes
    }
    if prevalence:
        found["predictive_values"] = thresholds.predictive_values_frame(study, draws, prevalence)
    if asked.ordered and sorted(asked.ordered) == sorted(study.classes):
        found["kappa"] = thresholds.kappa_frame(study, draws, asked.ordered)
    if acted := [name for name in asked.decision_curves if name in study.classes]:
        found["decision_curves"] = thresholds.decision_frame(study, draws, acted, prevalence)
    if asked.attributes is not None:
        groups = fairness.find_groups(study, draws, asked.attributes, asked.least_patients)
        found["fairness"] = fairness.gaps_frame(study, draws, groups)
        found["fairness_groups"] = fairness.groups_frame(study, draws, groups)
    return found


def class_parts(frames: Frames, shown: Sequence[str], prefix: str = "") -> Iterator[Part]:
    """How well each class is told from the rest, and at which threshold.

    Args:
        frames: of a report.
        shown: arms that a detailed view has room for.
        prefix: GROUPS for groups of classes.
    """
    ranked = frames[f"{prefix}ranking"]
    yield Part(
        f"{prefix}ranking",
        "AUPRC and partial AUROC of all arms",
        "Means over classes, each against the rest, in per cent, with differences to the baseline in points, adjusted for the number of "
        "arms. AUPRC: area under the precision-recall curve (average precision). Partial AUROC: area under the ROC curve above 80 % "
        "sensitivity, from 0 to 0.2, of which chance gets 0.02.",
        ranking.macro_table(ranked),
    )
    yield Part(
        f"{prefix}ranking_by_class",
        "AUROC, AUPRC and partial AUROC by class",
        "By chance AUPRC is the class’s share of the test images.",
        ranking.classes_table(ranked, shown),
    )
    if frames[f"{prefix}thresholds"].height:
        yield Part(
            f"{prefix}thresholds",
            "Sensitivity at a fixed specificity, and the reverse",
            "On test images, in per cent, at thresholds that keep the other rate at least so high on validation images, each seed with its "
            "own; what is left of it on test images stands in thresholds.csv. Intervals hold for these thresholds.",
            thresholds.thresholds_table(frames[f"{prefix}thresholds"], shown),
        )
    if f"{prefix}predictive_values" in frames:
        yield Part(
            f"{prefix}predictive_values",
            "PPV and NPV at a stated prevalence",
            "From sensitivity and specificity on test images, in per cent, at thresholds from validation images.",
            thresholds.predictive_values_table(frames[f"{prefix}predictive_values"], shown),
        )
    if f"{prefix}kappa" in frames:
        yield Part(
            f"{prefix}kappa",
            "Quadratic kappa of ordered classes",
            "Agreement beyond chance, where a verdict counts the less the further it is off: 1 is always right, 0 is chance. Differences are "
            "adjusted for the number of arms.",
            thresholds.kappa_table(frames[f"{prefix}kappa"]),
        )


def group_tables(frames: Frames, shown: Sequence[str]) -> dict[str, Table | list[Part] | None]:
    """What is said of groups of classes: the tables of `arms` and `differences`, and `parts`. Empty without groups."""
    if f"{GROUPS}arms" not in frames:
        return {}
    arms, differences, points = (
        frames[GROUPS + name] for name in ("arms", "differences", "operating_points")
    )
    metrics = [name for name in measure.SCORES if name in arms.columns]
    youden = Part(
        f"{GROUPS}operating_points",
        "Each group against the rest",
        "Sensitivity and specificity on test images, in per cent, at the threshold with the largest Youden index on validation images.",
        calibration.operating_points_table(points, shown),
    )
    return {
        "arms": tables.arms_table(arms, metrics),
        "differences": tables.differences_table(differences, metrics) if differences.height else None,
        "parts": [*([youden] if points.height else []), *class_parts(frames, shown, GROUPS)],
        "gaps": list(gap_parts(frames, shown, GROUPS)),
    }


def gap_parts(frames: Frames, shown: Sequence[str], prefix: str = "") -> Iterator[Part]:
    """Gaps between subgroups of patients; none where they were not asked for."""
    gaps = frames.get(f"{prefix}fairness")
    if gaps is None:
        return
    if gaps.height:
        yield Part(
            f"{prefix}fairness",
            "Gaps between subgroups",
            "The largest less the smallest score of the subgroups, in points, with an interval that holds for all pairs of them at once, "
            "and the gap that as many subgroups of these sizes would show on average by chance alone. Sensitivity, specificity and AUROC "
            "are means of the gaps of each class against the rest; the gap in sensitivity is the equal opportunity difference, and "
            "equalised odds is the larger of the gaps in sensitivity and specificity.",
            fairness.gaps_table(gaps, shown),
        )
        if (changes := fairness.changes_table(gaps)) is not None:
            yield Part(
                f"{prefix}fairness_changes",
                "What arms change of the gaps",
                "Against the baseline, in points, below 0 the smaller gap; paired by patient and seed, adjusted for all arms and attributes.",
                changes,
            )
        by_class = fairness.class_gaps_table(gaps, shown)
        if by_class.rows:
            yield Part(
                f"{prefix}fairness_by_class", "Gaps by class", "Each class against the rest.", by_class
            )
    if (left := fairness.left_out_table(frames[f"{prefix}fairness_groups"])) is not None:
        yield Part(
            f"{prefix}fairness_left_out",
            "Subgroups that are left out",
            "A score that is not defined, or rests on too few patients, is no gap.",
            left,
        )
