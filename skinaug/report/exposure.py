"""What of the real data a run's training set, generator and filters have seen."""

from __future__ import annotations

from typing import Any

import polars as pl

from skinaug.leaks.seen import read_seen
from skinaug.manifest import EXPOSURES, read_once
from skinaug.report import artifacts
from skinaug.report.collect import Run, Study
from skinaug.report.tables import Table, table

METHODS = {"textual_inversion": "textual inversion", "lora": "LoRA", "pipeline": "full fine-tuning"}


def exposure_table(study: Study) -> Table | None:
    """What of the real data each arm's training set, generator and filters have seen; None where nobody knows."""
    if not study.artifacts("mix"):
        return None
    return table(
        [
            "Arm",
            "Generator",
            "Filters",
            "Pool",
            "Real images trained on",
            "Real images seen by generator and filters",
        ],
        [_row(study.of(arm)[0]) for arm in study.arms],
        words=4,
    )


def _row(run: Run) -> list[Any]:
    trained = int(artifacts.mix_table(run)["real"].sum())
    return [run.arm, _generator(run), ", ".join(_filters(run)) or "none", _labels(run), trained, seen(run)]


def _labels(run: Run) -> str:
    """The exposure labels of the run's pools, in words."""
    pools = [folder for stage, folder in run.artifacts.items() if stage.partition(".")[0] == "curate"]
    tables = [read_once(folder).table for folder in pools]
    labels = {
        label for table in tables if "exposure" in table.columns for label in table["exposure"].unique()
    }
    if not pools:
        return "none"
    return "; ".join(words for label, words in EXPOSURES.items() if label in labels) or "not noted"


def seen(run: Run) -> int:
    """Real images that the run's generator or filters were given."""
    tables = [rows for stage in run.artifacts if (rows := _given(run, stage)) is not None]
    return pl.concat(tables)["sha256"].n_unique() if tables else 0


def seers(run: Run) -> str:
    """Which parts of the run have been given real training images, besides its classifier."""
    kinds = {stage.partition(".")[0] for stage in run.artifacts if _given(run, stage) is not None}
    return " and ".join(
        ["generator"] * bool(kinds & {"finetune", "generate"}) + ["filters"] * ("score" in kinds)
    )


def _given(run: Run, stage: str) -> pl.DataFrame | None:
    """The photographs that a stage noted, if any; fine-tuning that leaves the base as it is learns from none."""
    if stage == "finetune" and not _methods(run):
        return None
    rows = read_seen(run.artifacts[stage])
    return rows if rows is not None and rows.height else None


def _generator(run: Run) -> str:
    for stage in ("generate", "finetune"):
        given = artifacts.record(run.artifacts[stage])["config"] if stage in run.artifacts else {}
        if "seen" in given:
            return f"{given['name']}, made elsewhere; its maker has seen: {given['seen']}"
    return ", ".join(_methods(run)) or ("not fine-tuned" if "generate" in run.artifacts else "none")


def _methods(run: Run) -> list[str]:
    """Ways in which the generator was taught, from the files that they leave, of one model or of one a class."""
    folder = run.artifacts.get("finetune")
    if folder is None:
        return []
    models = list((folder / "models").glob("*"))
    found = [
        name
        for files, name in METHODS.items()
        if any((model / files).exists() for model in (folder, *models))
    ]
    return [f"{name}, one a class" for name in found] if models else found


def _filters(run: Run) -> list[str]:
    folder = run.artifacts.get("curate")
    return [] if folder is None else list(dict.fromkeys(artifacts.funnel(folder)["step"]))[1:]
