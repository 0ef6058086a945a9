"""The report stage: a sweep's runs to tables, CSV, Markdown and one HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from skinaug.report import (
    audits,
    calibration,
    chance,
    collect,
    content,
    cost,
    exchange,
    failures,
    further,
    gap,
    html,
    matched,
    measure,
    parts,
    readers,
    tables,
)
from skinaug.report import subgroups as patients
from skinaug.report.collect import Run, Study
from skinaug.report.latex import latex
from skinaug.report.margin import check_margin, judged
from skinaug.report.markdown import markdown
from skinaug.report.measure import Draws, Measured
from skinaug.report.settings import Asked
from skinaug.report.tables import Table
from skinaug.store.files import write_text

LATEX = ("arms", "differences", "paired", "exchange", "cost")  # tables that a paper may take


def report(
    runs: Sequence[Run],
    published: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    compare: str | None = None,
    margin: float | None = None,
    num_resamples: int = 2000,
    samples_per_class: int = 6,
    seed: int = 0,
    subgroups: Sequence[Any] | None = None,
    least_patients: int = 10,
    groups: Mapping[str, Sequence[str]] | None = None,
    ordered: Sequence[str] | None = None,
    prevalence: Mapping[str, float] | None = None,
    decision_curves: Sequence[str] = (),
    temperature: bool = False,
    *,
    out: Path,
) -> None:
    """Write report.html, report.md and, as CSV, arms, differences, exchange, recall, chance, matched, runs, validity, cost, stages,
    calibration, operating_points, ranking, thresholds, subgroups and gap, where there are further test sets also further, where pools
    were read also readers, where jobs have failed also failures; tables as LaTeX lie in tex/. Where they are asked for also fairness, fairness_groups, predictive_values, kappa, decision_curves,
    temperature, and the same of groups of classes in groups/.

    Args:
        runs: jobs of one sweep; those that failed are named with the reason, and others that did not finish are listed as missing.
        published: results to show beside ours: `citation`, `test_images` and `rows` of arm, real and synthetic images a
            class, and top1, top2, top3 in per cent.
        baseline: the arm that the others are compared with; real_small, else the first, where none is given.
        compare: a swept config key, such as filter: arms that differ in nothing else are compared pair by pair.
        margin: points of top-1 within which an arm counts as good as the baseline, stated before the results are seen: the
            report says of each arm whether it is shown not to be worse by more, to be equivalent, to be worse by more, or neither.
        num_resamples: test sets and sets of seeds that the intervals stand on.
        samples_per_class: pictures a class and source.
        seed: of the bootstrap; other seeds move interval ends by about a tenth of a point.
        subgroups, least_patients, groups, ordered, prevalence, decision_curves, temperature: further questions; see
            `settings.Asked`.

    Raises:
        InputError: repeated or no finished runs, an unknown baseline, differing classes, unreadable published results, questions
            about what the data do not have, no such margin.
    """
    check_margin(margin)
    if published is not None:
        tables.check_published(published)
    asked = Asked(subgroups, least_patients, groups, ordered, prevalence, decision_curves, temperature)
    study = collect.make_study(runs, baseline)
    check_asked(study, asked)
    measured = measure.measure(study, num_resamples, seed)
    draws = measure.draw(study.predictions, num_resamples, seed)
    frames = _frames(study, measured, draws, num_resamples, seed, compare, asked)
    for name in {"differences", "paired"} & set(frames):
        frames[name] = judged(frames[name], measured, margin)
    for name, frame in frames.items():
        (out / name).parent.mkdir(exist_ok=True)
        write_text(out / f"{name}.csv", frame.write_csv())
    said = content.words_and_tables(study, published, frames, compare, asked)
    write_text(out / "report.md", markdown(said))
    for name, table in _for_papers(said):
        (out / "tex" / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / "tex" / f"{name}.tex", latex(table))
    shown = content.pictures(study, measured, draws, frames, samples_per_class)
    write_text(out / "report.html", html.render({**said, **shown}))


def check_asked(study: Study, asked: Asked) -> None:
    """Refuse questions about what a study's data do not have. Raises InputError."""
    stated, own = patients.stated(study) if asked.attributes else ([], [])
    asked.check_classes(study.classes, own)
    asked.check_attributes(stated)
    asked.check_validated(study.validated)


def _for_papers(said: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    """The tables that a paper may take, by name."""
    groups = said["groups"]
    found = {name: said[f"{name}_table"] for name in (*LATEX, "temperature")}
    found |= {f"groups/{name}": groups[name] for name in ("arms", "differences") if groups}
    yield from ((name, table) for name, table in found.items() if table)
    further = [*groups["parts"], *groups["gaps"]] if groups else []
    yield from ((part.name, part.table) for part in (*said["class_parts"], *said["gap_parts"], *further))


def _frames(
    study: Study,
    measured: Measured,
    draws: Draws,
    num_resamples: int,
    seed: int,
    compare: str | None,
    asked: Asked,
) -> dict[str, pl.DataFrame]:
    """The tables of numbers, by the names of their CSV files."""
    frames = {
        "arms": measure.arms_frame(study, measured),
        "differences": measure.differences_frame(study, measured),
        "exchange": exchange.exchange_frame(study, measured),
        "recall": measure.recall_frame(study, measured),
        "chance": chance.chance_frame(study, measured),
        "matched": matched.matched_frame(study, measured),
        "runs": measure.runs_frame(study, measured),
        "validity": audits.validity_frame(study, measured),
        "cost": cost.arms_frame(study),
        "stages": cost.stages_frame(study),
        "calibration": calibration.calibration_frame(study, draws),
        "operating_points": calibration.operating_points_frame(study, draws),
        "subgroups": patients.subgroups_frame(study, draws, asked.attributes, asked.least_patients),
        "gap": gap.gap_frame(study, num_resamples, seed),
        **parts.frames(study, draws, asked),
        **parts.group_frames(study, draws, asked, num_resamples, seed),
    }
    if study.failed:
        frames["failures"] = failures.failures_frame(study.failed, study.arms)
    if study.artifacts(readers.STAGE):
        frames["readers"] = readers.study_frame(study, num_resamples, seed)
    if study.test_sets:
        frames["further"] = further.further_frame(study, measured, num_resamples, seed)
    if compare is not None:
        frames["paired"] = measure.paired_frame(study, measured, compare)
    return frames
