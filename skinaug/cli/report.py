"""`skinaug report`: report on a finished sweep. A sweep of classifiers does so by itself when it ends."""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.report.collect import RUN_FILE, distinct, name_arms, read_runs
from skinaug.report.stage import make_report
from skinaug.store.files import telling_full_disk
from skinaug.store.store import Store


def command(cfg: DictConfig, stage: str) -> None:
    report(cfg, Path(cfg.report.runs) if cfg.report.runs else newest_sweep(cfg))


def report(cfg: DictConfig, sweep: Path) -> None:
    """Report on the runs below a folder, from the store where it was written before; a copy lies in `sweep`/report."""
    from skinaug.report.terminal import print_report

    runs = name_arms(distinct(read_runs(sweep)))
    artifact = make_report(Store(Path(cfg.store)), cfg.report, runs)
    folder = sweep / "report"
    with telling_full_disk(sweep):
        shutil.copytree(artifact.path, folder, dirs_exist_ok=True)
    print_report(folder)


def newest_sweep(cfg: DictConfig) -> Path:
    """The study's latest folder with finished runs."""
    runs = sorted((Path(cfg.output) / cfg.name).glob(f"*/**/{RUN_FILE}"))
    if not runs:
        raise InputError(
            f"No finished run of {cfg.name!r} lies under {cfg.output}. Run a sweep first (skinaug classify -m ...) or name a "
            "folder of runs with report.runs=<folder>."
        )
    return Path(cfg.output) / cfg.name / runs[-1].relative_to(Path(cfg.output) / cfg.name).parts[0]
