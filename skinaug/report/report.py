"""The report stage: a sweep's runs to tables, CSV, Markdown and one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    further,
    gap,
    html,
    matched,
    measure,
    subgroups,
    tables,
)
from skinaug.report.collect import Run, Study
from skinaug.report.latex import latex
from skinaug.report.markdown import markdown
from skinaug.report.measure import Draws, Measured
from skinaug.store.files import write_text

LATEX = ("arms", "differences", "paired", "exchange", "cost")  # tables that a paper may take


def report(
    runs: Sequence[Run],
    published: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    compare: str | None = None,
    num_resamples: int = 2000,
    samples_per_class: int = 6,
    seed: int = 0,
    *,
    out: Path,
) -> None:
    """Write report.html, report.md and, as CSV, arms, differences, exchange, recall, chance, matched, runs, validity, cost,
    stages, calibration, operating_points, subgroups and gap, where there are further test sets also further; tables as LaTeX lie in
    tex/.

    Args:
        runs: jobs of one sweep; those that did not finish are listed as missing.
        published: results to show beside ours: `citation`, `test_images` and `rows` of arm, real and synthetic images a
            class, and top1, top2, top3 in per cent.
        baseline: the arm that the others are compared with; real_small, else the first, where none is given.
        compare: a swept config key, such as filter: arms that differ in nothing else are compared pair by pair.
        num_resamples: test sets and sets of seeds that the intervals stand on.
        samples_per_class: pictures a class and source.
        seed: of the bootstrap; other seeds move interval ends by about a tenth of a point.

    Raises:
        InputError: repeated or no finished runs, an unknown baseline, differing classes, unreadable published results.
    """
    if published is not None:
        tables.check_published(published)
    study = collect.make_study(runs, baseline)
    measured = measure.measure(study, num_resamples, seed)
    draws = measure.draw(study.predictions, num_resamples, seed)
    frames = _frames(study, measured, draws, num_resamples, seed, compare)
    for name, frame in frames.items():
        write_text(out / f"{name}.csv", frame.write_csv())
    said = content.words_and_tables(study, published, frames, compare)
    write_text(out / "report.md", markdown(said))
    (out / "tex").mkdir(exist_ok=True)
    for name in LATEX:
        if said[f"{name}_table"]:
            write_text(out / "tex" / f"{name}.tex", latex(said[f"{name}_table"]))
    shown = content.pictures(study, measured, draws, frames, samples_per_class)
    write_text(out / "report.html", html.render({**said, **shown}))


def _frames(
    study: Study, measured: Measured, draws: Draws, num_resamples: int, seed: int, compare: str | None
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
        "subgroups": subgroups.subgroups_frame(study, draws),
        "gap": gap.gap_frame(study, num_resamples, seed),
    }
    if study.test_sets:
        frames["further"] = further.further_frame(study, measured, num_resamples, seed)
    if compare is not None:
        frames["paired"] = measure.paired_frame(study, measured, compare)
    return frames
