"""The report stage: a sweep's runs to tables, CSV, Markdown and one HTML file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table as RichTable

from skinaug.manifest import Manifest
from skinaug.report import collect, figures, html, measure, samples, tables, text
from skinaug.report.collect import Run, Study
from skinaug.report.measure import SCORES, Measured
from skinaug.report.tables import Table

MOST_CLASSES = 12  # of which a confusion table is still readable
CURVES = {"train/loss": "Training loss", "val/loss": "Validation loss", "val/top1": "Validation top-1"}


def report(
    runs: Sequence[Run],
    published: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    num_resamples: int = 2000,
    samples_per_class: int = 6,
    seed: int = 0,
    *,
    out: Path,
) -> None:
    """Write report.html, report.md, arms.csv, differences.csv, recall.csv and runs.csv.

    Args:
        runs: jobs of one sweep; those that did not finish are listed as missing.
        published: results to show beside ours: `citation`, `test_images` and `rows` of arm, real and synthetic images a
            class, and top1, top2, top3 in per cent.
        baseline: the arm that the others are compared with; real_small, else the first, where none is given.
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
    frames = {
        "arms": measure.arms_frame(study, measured),
        "differences": measure.differences_frame(study, measured),
        "recall": measure.recall_frame(study, measured),
        "runs": measure.runs_frame(study, measured),
    }
    for name, frame in frames.items():
        _write(out / f"{name}.csv", frame.write_csv())
    content = _content(study, published, frames)
    _write(out / "report.md", markdown(content))
    pictures = {
        "colours": figures.arm_colours(study.arms, study.baseline),
        "figures": _figures(study, measured, frames),
        "strips": samples.sample_strips(study, samples_per_class),
        "confusions": _confusions(study),
    }
    _write(out / "report.html", html.render({**content, **pictures}))


def print_report(out: Path) -> None:
    """Print the arms and the differences of a finished report, and where its HTML lies."""
    arms, differences = (pl.read_csv(out / f"{name}.csv", infer_schema_length=None) for name in ("arms", "differences"))
    console = Console()
    console.print(_rich(tables.arms_table(arms), "Score on real test images, %, with 95 % interval"))
    if differences.height:
        title = f"Difference to {differences['baseline'][0]} in points, paired by test image and seed"
        console.print(_rich(tables.differences_table(differences), title))
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True, highlight=False)


def _rich(table: Table, title: str) -> RichTable:
    shown = RichTable(title=title, title_justify="left")
    for i, name in enumerate(table.header):
        shown.add_column(name, justify="left" if i < table.words else "right")
    for row in table.rows:
        shown.add_row(*(f"{cell.text}\n[dim]{cell.note}[/dim]" if cell.note else cell.text for cell in row))
    return shown


def _content(study: Study, published: Mapping[str, Any] | None, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """All words and tables of the report."""
    arms, differences = frames["arms"], frames["differences"]
    data = [Manifest.read(folder) for folder in study.artifacts("dataset")]
    record = collect.record(study.runs[-1].artifacts["classify"])
    return {
        "experiment": study.experiment,
        "baseline": study.baseline,
        "arms": study.arms,
        "headline": text.headline(study, arms, differences),
        "notes": text.notes(study, arms, differences),
        "arms_table": tables.arms_table(arms),
        "differences_table": tables.differences_table(differences) if differences.height else None,
        "published": published,
        "published_table": tables.published_table(published, arms) if published else None,
        "funnels": {name: tables.funnel_table(folder) for name, folder in _funnels(study).items()},
        "recall_table": tables.recall_table(frames["recall"], tables.supports(study)),
        "data_tables": [tables.data_table(manifest) for manifest in data],
        "licences": list(dict.fromkeys((m.licence, m.citation) for m in data)),
        "exposure_table": tables.exposure_table(study),
        "runs_table": tables.runs_table(frames["runs"]),
        "stages_table": tables.stages_table(study),
        "record": record,
        "settings": collect.settings(study),
        "research_use_only": text.RESEARCH_USE_ONLY,
    }
