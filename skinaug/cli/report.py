"""`skinaug report`: report on a finished sweep, which a sweep of classifiers does by itself when it ends; or on predictions that
were made elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from skinaug.cli.next_step import tell_after_report
from skinaug.errors import InputError, printable
from skinaug.pipeline import check_writable
from skinaug.report.collect import RUN_FILE, Run, asked_runs, check_baseline
from skinaug.report.margin import check_margin
from skinaug.report.readers import STAGE as READINGS
from skinaug.report.stage import make_report, take_given, take_readings
from skinaug.stage import build, plain
from skinaug.store.files import telling_full_disk
from skinaug.store.store import Store

ANSWERS = "answers"  # the folder of readers' files, within that of a pool


def command(cfg: DictConfig, stage: str) -> None:
    check_margin(cfg.report.margin)
    if cfg.predictions is None:
        report(cfg, Path(cfg.report.runs) if cfg.report.runs else newest_sweep(cfg))
    else:
        report_given(cfg, Path(os.path.abspath(os.path.expanduser(str(cfg.predictions)))))


def report(cfg: DictConfig, sweep: Path) -> None:
    """Report on the runs below a folder, and on jobs that left none there, from the store where it was written before; a copy lies in `sweep`/report."""
    write(cfg, with_readings(cfg, asked_runs(sweep, Path(cfg.store))), sweep)


def with_readings(cfg: DictConfig, runs: Sequence[Run]) -> list[Run]:
    """The runs, with what readers answered about pictures of their pools, where any did (`skinaug review review.task=real_or_fake`)."""
    root = Path(cfg.review.readings)
    pools = {run.artifacts["curate"]: run.artifacts["dataset"] for run in runs if "curate" in run.artifacts}
    found = {pool: data for pool, data in pools.items() if (root / pool.name / ANSWERS).is_dir()}
    if not found:
        return list(runs)
    from skinaug.curate.readers import readings
    from skinaug.manifest import Manifest

    kept = {}
    for pool, data in found.items():
        answers = readings(root / pool.name / ANSWERS, Manifest.read(data), Manifest.read(pool))
        if answers.height:
            kept[pool] = take_readings(Store(Path(cfg.store)), answers)
    return [
        replace(run, artifacts={**run.artifacts, READINGS: kept[run.artifacts["curate"]]})
        if run.artifacts.get("curate") in list(kept)
        else run
        for run in runs
    ]


def report_given(cfg: DictConfig, place: Path) -> None:
    """Report on the predictions of a folder of tables; a copy of the report lies below the folder of outputs.

    Raises:
        InputError: settings that need runs of our own, or as `given.read_given`. Nothing is written then.
    """
    from skinaug.report.given import check_given, read_given
    from skinaug.report.settings import Asked
    from skinaug.report.tables import check_published

    own = [name for name in ("runs", "compare") if cfg.report[name] is not None]
    if own:
        raise InputError(
            f"report.{own[0]}={cfg.report[own[0]]} speaks of our own runs, and predictions={cfg.predictions} of predictions that were made "
            "elsewhere: give one of them."
        )
    if cfg.report.published is not None:
        check_published(plain(cfg.report.published))
    out = Path(cfg.output) / cfg.name / place.name
    check_writable("output", out)
    given = read_given(place)
    check_given(given, Asked.of(plain(cfg.report)))
    check_baseline(cfg.report.baseline, given.table["arm"].unique(maintain_order=True).to_list())
    if given.unread:
        Console().print(
            f"not read: the columns {printable(', '.join(given.unread))}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    write(cfg, take_given(Store(Path(cfg.store)), place, given), out)


def write(cfg: DictConfig, runs: Sequence[Run], beside: Path) -> None:
    """Make the report of runs whose arms are named, copy it to `beside`/report and print its first tables."""
    from skinaug.report.terminal import print_report

    artifact = make_report(Store(Path(cfg.store)), cfg.report, runs, build(cfg.logger))
    folder = beside / "report"
    beside.mkdir(parents=True, exist_ok=True)
    with telling_full_disk(beside):
        shutil.copytree(artifact.path, folder, dirs_exist_ok=True)
    print_report(folder)
    if any(beside.rglob(RUN_FILE)):
        tell_after_report(beside)


def newest_sweep(cfg: DictConfig) -> Path:
    """The study's latest folder with finished runs."""
    runs = sorted((Path(cfg.output) / cfg.name).glob(f"*/**/{RUN_FILE}"))
    if not runs:
        raise InputError(
            f"No finished run of {cfg.name!r} lies under {cfg.output}. Run a sweep first (skinaug classify -m ...) or name a "
            "folder of runs with report.runs=<folder>."
        )
    return Path(cfg.output) / cfg.name / runs[-1].relative_to(Path(cfg.output) / cfg.name).parts[0]
