"""What a sweep cost: seconds of device, stage by stage and arm by arm, and how much of them the arms shared."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from skinaug.manifest import read_once
from skinaug.report import artifacts
from skinaug.report.collect import GIVEN, Run, Study
from skinaug.report.readers import STAGE as READINGS
from skinaug.report.tables import Cell, Table, table
from skinaug.report.units import jobs_of

STAGES = (
    "dataset", "test", "copies", "real_labels", "exposed", "finetune", "generate", "score", "curate", "audit", "tones", "mix", "certify", "classify", "evaluate",
)  # fmt: skip
HOUR, MINUTE = 3600, 60
STAGE_COSTS = {
    "stage": pl.String,
    "device": pl.String,
    "last_built": pl.String,
    "artifacts": pl.Int64,
    "seconds": pl.Float64,
    "images_per_second": pl.Float64,
}
ARM_COSTS = {
    "arm": pl.String,
    "runs": pl.Int64,
    "device": pl.String,
    "seconds_alone": pl.Float64,
    "seconds_shared": pl.Float64,
    "seconds_own": pl.Float64,
}


def stages_frame(study: Study) -> pl.DataFrame:
    """One row a stage and device: artifacts that the runs stand on, each counted once, and the seconds that they took.

    `images_per_second`: of `generate`, images of its pools over its seconds; of `classify`, training images that a second of
    training sees, mean over its runs; null elsewhere. What was made elsewhere has no row.
    """
    rows = []
    for stage in sorted({stage for run in study.jobs for stage in _made(run)}, key=_place):
        by_device: dict[str, list[Path]] = {}
        for folder in study.artifacts(stage):
            by_device.setdefault(str(artifacts.record(folder)["device"]), []).append(folder)
        for device, folders in by_device.items():
            records = [artifacts.record(folder) for folder in folders]
            seconds = sum(float(record["seconds"]) for record in records)
            built = max(str(record["created"]) for record in records)
            rate = _images_per_second(study, stage, set(folders), seconds)
            rows.append([stage, device, built, len(records), seconds, rate])
    return pl.DataFrame(rows, schema=STAGE_COSTS, orient="row")


def _made(run: Run) -> dict[str, Path]:
    """The artifacts that a run was made of, none where it was made elsewhere."""
    return {stage: folder for stage, folder in run.artifacts.items() if stage not in (GIVEN, READINGS)}


def _place(stage: str) -> tuple[int, str]:
    """Order of the pipeline; a filter's scores (score.<filter>) are a stage of their own."""
    kind = stage.partition(".")[0]
    return (STAGES.index(kind) if kind in STAGES else len(STAGES), stage)


def _images_per_second(study: Study, stage: str, folders: set[Path], seconds: float) -> float | None:
    if stage == "generate" and seconds:
        return sum(read_once(folder).table.height for folder in folders) / seconds
    if stage != "classify":
        return None
    runs = [run for run in study.jobs if run.artifacts.get(stage) in folders]
    rates = [artifacts.metrics(run)["train"].get("images_per_second") for run in runs]
    known = [rate for rate in rates if rate is not None]
    return sum(known) / len(known) if known else None


def arms_frame(study: Study) -> pl.DataFrame:
    """One row an arm: seconds that it would take by itself, those of them that other arms need too, and those that it alone
    needs, all its seeds together; none where nobody knows."""
    users: dict[Path, set[str]] = {}
    for run in study.jobs:
        for folder in _made(run).values():
            users.setdefault(folder, set()).add(run.arm)
    records = {folder: artifacts.record(folder) for folder in users}
    rows = []
    for arm in study.arms if users else ():
        needed = [folder for folder, arms in users.items() if arm in arms]
        seconds = {folder: float(records[folder]["seconds"]) for folder in needed}
        shared = sum(seconds[folder] for folder in needed if len(users[folder]) > 1)
        devices = ", ".join(dict.fromkeys(str(records[folder]["device"]) for folder in needed))
        alone = sum(seconds.values())
        rows.append([arm, len(jobs_of(study.of(arm))), devices, alone, shared, alone - shared])
    return pl.DataFrame(rows, schema=ARM_COSTS, orient="row")


def stages_table(stages: pl.DataFrame) -> Table:
    """A row a stage and device."""
    rows = []
    for row in stages.iter_rows(named=True):
        each = row["seconds"] / row["artifacts"]
        about = [row["stage"], row["device"], row["last_built"][:16].replace("T", " ")]
        rows.append([*about, row["artifacts"], row["seconds"], each, _rate(row["images_per_second"])])
    header = [
        "Stage",
        "Device",
        "Last built (UTC)",
        "Artifacts",
        "Seconds in all",
        "Seconds each",
        "Images / s",
    ]
    return table(header, rows, words=3)


def arms_table(arms: pl.DataFrame) -> Table:
    """A row an arm, in device-hours, or in minutes where there are few."""
    divisor, name = unit(max(arms["seconds_alone"].to_list()))
    rows = []
    for row in arms.iter_rows(named=True):
        alone, shared, own = (
            f"{row[f'seconds_{part}'] / divisor:,.2f}" for part in ("alone", "shared", "own")
        )
        share = f"{100 * row['seconds_shared'] / row['seconds_alone']:.0f} %" if row["seconds_alone"] else ""
        rows.append([row["arm"], row["runs"], alone, Cell(shared, share), own])
    return table(["Arm", "Runs", f"Alone, {name}", "Shared with other arms", "Its own"], rows)


def summary(stages: pl.DataFrame, arms: pl.DataFrame) -> str:
    """What the sweep cost in all and by device, and what its arms would have cost one by one."""
    seconds, alone = float(stages["seconds"].sum()), float(arms["seconds_alone"].sum())
    by_device = stages.group_by("device", maintain_order=True).agg(pl.col("seconds").sum())
    each = "; ".join(f"{_duration(spent)} on {device}" for device, spent in by_device.iter_rows())
    told = f"The sweep took {each}."
    if by_device.height > 1:
        told = f"The sweep took {_duration(seconds)}: {each}."
    if alone > seconds:
        told += f" Its arms one by one would have taken {_duration(alone)}: what they share was made once."
    return told


def unit(seconds: float) -> tuple[int, str]:
    """A unit in which a time is neither tiny nor huge, and its name."""
    return (HOUR, "device-hours") if seconds >= HOUR else (MINUTE, "device-minutes")


def _duration(seconds: float) -> str:
    divisor, name = unit(seconds)
    return f"{seconds / divisor:,.1f} {name}"


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
