"""All that a report says and shows, by the names under which its Markdown and its page take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from skinaug.manifest import read_once
from skinaug.report import (
    artifacts,
    audits,
    calibration,
    chance,
    cost,
    exchange,
    exposure,
    failures,
    figures,
    further,
    gap,
    grid,
    margin,
    matched,
    measure,
    parts,
    plots,
    readers,
    real_labels,
    samples,
    subgroups,
    swept,
    tables,
    temperature,
    text,
)
from skinaug.report.collect import Study
from skinaug.report.measure import SCORES, Draws, Measured
from skinaug.report.settings import Asked
from skinaug.report.tables import Table

MOST_CLASSES = 12  # of which a confusion table is still readable


def words_and_tables(
    study: Study,
    published: Mapping[str, Any] | None,
    frames: Mapping[str, pl.DataFrame],
    compare: str | None,
    asked: Asked,
) -> dict[str, Any]:
    """All words and tables of the report."""
    arms, differences = frames["arms"], frames["differences"]
    shown = measure.shown_arms(arms)
    metrics = measure.metric_names(study)
    data = [read_once(folder) for folder in study.artifacts("dataset")]
    record = artifacts.record(next(folder for run in reversed(study.runs) if (folder := run.judged)))
    return {
        "experiment": study.experiment,
        "compare": compare,
        "paired_table": tables.paired_table(frames["paired"], metrics) if compare else None,
        "baseline": study.baseline,
        "classes": study.classes,
        "headline": text.headline(study, arms, differences),
        "paired_headline": text.pairs(frames["paired"], compare) if compare else [],
        "failed": failures.told(frames["failures"]) if "failures" in frames else None,
        "notes": [
            *matched.notes(frames["matched"]),
            *chance.notes(study, frames["chance"]),
            *text.notes(study, arms, differences),
        ],
        "matched_table": matched.matched_table(frames["matched"]),
        "left_out": text.left_out(study, frames["subgroups"]),
        "arms_table": tables.arms_table(arms, metrics),
        "differences_table": tables.differences_table(differences, metrics) if differences.height else None,
        "margin_note": margin.note(differences),
        "further": further.further_tables(study, frames["further"]) if "further" in frames else {},
        "exchange_table": exchange.exchange_table(frames["exchange"]),
        "heatmaps": {
            SCORES[name]: grid.heatmaps(study, arms, name) for name in ("top1", "balanced_accuracy")
        },
        "exchange_notes": exchange.exchange_notes(frames["exchange"]),
        "published": published,
        "published_reading": text.published_reading(published, study.baseline) if published else "",
        "published_table": tables.published_table(published, arms) if published else None,
        "funnels": {name: _funnel(folder) for name, folder in _funnels(study).items()},
        "audits": {name: _audit(folder) for name, folder in audits.pool_audits(study).items()},
        "validity_table": audits.validity_table(frames["validity"]) if frames["validity"].height else None,
        "certificates_table": audits.certificates_table(study),
        "not_covered": audits.not_covered(study),
        "chance_table": chance.chance_table(frames["chance"]),
        "recall_table": tables.recall_table(frames["recall"], tables.supports(study)),
        "shown": plots.arm_colours(shown, study.baseline),
        "calibration_table": calibration.calibration_table(frames["calibration"]),
        "operating_points_table": calibration.operating_points_table(frames["operating_points"], shown)
        if frames["operating_points"].height
        else None,
        "class_parts": list(parts.class_parts(frames, shown)),
        "groups": parts.group_tables(frames, shown),
        "group_names": {name: ", ".join(own) for name, own in asked.grouped(study.classes).items()},
        "gap_parts": list(parts.gap_parts(frames, shown)),
        "temperature_table": temperature.temperature_table(frames["temperature"])
        if "temperature" in frames
        else None,
        "subgroups_by": subgroups.by(asked.attributes),
        "worst_table": subgroups.worst_table(frames["subgroups"], arms),
        "top1_table": subgroups.subgroups_table(frames["subgroups"], shown),
        "gap_table": gap.gap_table(frames["gap"], arms),
        "caution": subgroups.caution(frames["subgroups"], asked.least_patients),
        "data_tables": [tables.data_table(manifest) for manifest in data],
        "licences": list(dict.fromkeys((m.licence, m.citation) for m in data)),
        "readers": readers.told(frames["readers"]) if "readers" in frames else {},
        "readers_about": readers.ABOUT,
        "real_labels_tables": real_labels.tables(study),
        "real_labels_caution": real_labels.CAUTION,
        "exposure_table": exposure.exposure_table(study),
        "runs_table": tables.runs_table(frames["runs"]),
        "cost": cost.summary(frames["stages"], frames["cost"]),
        "cost_table": cost.arms_table(frames["cost"]) if frames["cost"].height else None,
        "stages_table": cost.stages_table(frames["stages"]),
        "record": record,
        "settings": swept.shared_settings(study),
        "research_use_only": text.RESEARCH_USE_ONLY,
    }


def _funnels(study: Study) -> dict[str, Path]:
    """Curation artifacts by the name that their pool has among the samples."""
    folders = list(study.artifacts("curate"))
    return dict(zip(samples.pools(study), folders, strict=False)) if folders else {}


def _funnel(folder: Path) -> dict[str, Table | None]:
    """Tables of what a pool's filters kept and why."""
    return {
        "kept": tables.funnel_table(folder),
        "reasons": tables.reasons_table(folder),
        "subgroups": tables.subgroups_table(folder),
    }


def _audit(folder: Path) -> dict[str, Any]:
    """Tables of what a pool's audit found."""
    return {
        "fidelity": audits.fidelity_table(folder),
        "fidelity_by_class": audits.fidelity_table(folder, None),
        "warnings": audits.warnings(folder),
        "memorisation": audits.memorisation_table(folder),
        "obedience": audits.obedience_table(folder),
        "tones": audits.tones_table(folder),
        "sizes": audits.sizes_table(folder),
        "coverage": audits.coverage_table(folder),
    }


def pictures(
    study: Study,
    measured: Measured,
    draws: Draws,
    frames: Mapping[str, pl.DataFrame],
    samples_per_class: int,
) -> dict[str, Any]:
    """What the page shows besides: figures, photographs and confusions."""
    drawn = figures.drawn_arms(study, frames["arms"])
    return {
        "colours": plots.arm_colours(study.arms, study.baseline),
        "figures": figures.draw_figures(study, measured, draws, frames),
        "pairs": _pairs(study),
        "suspects": real_labels.pictures(study),
        "strips": samples.sample_strips(study, samples_per_class),
        "samples_per_class": samples_per_class,
        "confusions": _confusions(study, drawn),
        "drawn": drawn,
        "drawn_note": text.drawn_note(study, drawn),
    }


def _pairs(study: Study) -> dict[str, list[audits.Pair]]:
    """The nearest pairs of each pool."""
    runs = {run.artifacts["audit"]: run.artifacts for run in study.jobs if "audit" in run.artifacts}
    return {
        name: audits.nearest_pairs(folder, *(runs[folder][stage] for stage in ("generate", "dataset")))
        for name, folder in audits.pool_audits(study).items()
    }


def _confusions(study: Study, drawn: Sequence[str]) -> dict[str, list[list[float]]]:
    """Rows of shares of each arm drawn, where the classes are few enough to read."""
    if len(study.classes) > MOST_CLASSES:
        return {}
    return {arm: np.nan_to_num(measure.confusion(study, arm)).tolist() for arm in drawn}
