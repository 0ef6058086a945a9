"""Jobs of a sweep that run beside each other: what those on a cluster (`slurm`) and those on one box (`local`) share.

A job is composed when the sweep is launched, so what is edited while it waits does not change it, and one whose configuration
cannot work is refused before any is started. Jobs meet in the store: a sweep that was interrupted is launched again with the
same command, and builds only what is missing.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from skinaug import termination
from skinaug.errors import Ended, InputError

LOG = "log.txt"  # in a job's folder

SUBMITIT = ("submitit ", "Job completed", "Exiting after")  # how its own lines in a log begin

console = Console()


@dataclass
class Job:
    """A job of a sweep; called, it runs and returns what became of it.

    Attributes:
        number: in the sweep.
        cfg: the composed configuration, with Hydra's own.
        context: Hydra's.
        task: what is run; `task.stage` is what it builds.
    """

    number: int
    cfg: DictConfig
    context: HydraContext
    task: TaskFunction

    def __call__(self) -> JobReturn:
        from skinaug.launch import configs

        termination.stop_at_sigterm()
        configs.register()
        setup_globals()
        try:
            result = run_job(
                self.task, self.cfg, "hydra.sweep.dir", "hydra.sweep.subdir", hydra_context=self.context
            )
            if result.status != JobStatus.COMPLETED:
                if termination.asked:  # something else went wrong on the way out
                    raise SystemExit(termination.STATUS)
                traceback.print_exception(result._return_value)
            return result
        except Ended as ended:  # bad input
            print(f"skinaug: {ended.message}", file=sys.stderr)
            return JobReturn(status=JobStatus.FAILED, _return_value=InputError(ended.message))

    @property
    def folder(self) -> Path:
        """Where people look for what it has written."""
        return Path(os.path.abspath(self.cfg.hydra.sweep.dir)) / str(self.cfg.hydra.sweep.subdir)


class SweepLauncher(Launcher):
    """Composes and checks a sweep's jobs, runs them in waves (`waves`), and tells which have failed."""

    kind: type[Job] = Job

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        jobs = [
            self.kind(number, self.compose(overrides, number), self.context, self.task)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        names = [list(job.cfg.hydra.overrides.task) for job in jobs]
        apart = {  # what sets each job apart from the others
            job.number: " ".join(name for name in own if not all(name in other for other in names))
            for job, own in zip(jobs, names, strict=True)
        }
        results: dict[int, JobReturn] = {}
        progress = Progress(
            TextColumn("jobs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[told]}"),
            console=console, transient=True,
        )  # fmt: skip
        with progress:
            bar = progress.add_task("jobs", total=len(jobs), told="")
            for job, result in self.run(jobs, lambda told: progress.update(bar, told=told)):
                results[job.number] = result
                progress.advance(bar)
                verdict = "done" if result.status == JobStatus.COMPLETED else "[red]failed[/red]"
                lost = isinstance(result._return_value, Ended)  # it could not tell itself
                said = result._return_value.message if lost else last_line(job.folder / LOG)
                told = escape(f"{apart[job.number]}  {said}")
                console.print(f"job {job.number} {verdict}: {told}", highlight=False, soft_wrap=True)
        failed = [job for job in jobs if results[job.number].status != JobStatus.COMPLETED]
        if failed:
            summary = f"{len(failed)} of {len(jobs)} jobs failed. Their logs:"
            lines = [
                summary,
                *(f"  {job.folder / LOG}" for job in failed),
                "Run the same command again to go on.",
            ]
            for job in failed:
                if not isinstance(results[job.number]._return_value, InputError):
                    results[job.number]._return_value = Ended(1, "\n".join(lines))
        return [results[job.number] for job in jobs]

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """A job's configuration, which is refused here if it cannot work."""
        from skinaug.launch.selections import refuse_repeated_sets
        from skinaug.pipeline import check, steps

        cfg = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = f"{cfg.hydra.job.name}_{number}", number
            cfg.hydra.sweep.dir = os.path.abspath(
                cfg.hydra.sweep.dir
            )  # a name with the time in it stays as it is
        HydraConfig.instance().set_config(cfg)
        job = without_hydra(cfg)
        refuse_repeated_sets(job, cfg.hydra.overrides.task)
        check(job, steps(job, self.task.stage))  # type: ignore[attr-defined]
        return cfg

    def run(self, jobs: list[Job], tell: Callable[[str], None]) -> Iterator[tuple[Job, JobReturn]]:
        """Run jobs; yields each with its result as it ends. `tell` shows how things stand."""
        raise NotImplementedError


def waves(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs in the order in which they can run without waiting for each other: of those that need the same missing artifact, one
    comes first and the others in a later wave, when it is there."""
    from skinaug.pipeline import recipes
    from skinaug.store.store import Store

    missing = {}
    for job in jobs:
        cfg = without_hydra(job.cfg)
        plan = recipes(cfg, job.task.stage)  # type: ignore[attr-defined]
        store = Store(Path(cfg.store))
        missing[job.number] = {recipe.key for recipe in plan.values() if not store.has(recipe)}
    waiting, built = list(jobs), set[str]()
    while waiting:
        wave, claimed = [], set[str]()
        for job in waiting:
            needs = missing[job.number] - built
            if not needs & claimed:
                wave.append(job)
            claimed |= needs
        yield wave
        built |= set().union(*(missing[job.number] for job in wave))
        waiting = [job for job in waiting if job not in wave]


def without_hydra(cfg: DictConfig) -> DictConfig:
    """What a job is given of its composed configuration."""
    task = cfg.copy()
    with open_dict(task):
        del task["hydra"]
    return task


def last_line(log: Path) -> str:
    """Of a job's log: what it has to say in the end."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    own = [line.strip() for line in lines if line.strip() and not line.startswith(SUBMITIT)]
    return own[-1] if own else ""
