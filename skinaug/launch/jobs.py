"""Jobs of a sweep: what those on a cluster (`slurm`), those beside each other on one box (`local`) and those one after the other
(`sequential`) share.

A job is composed when the sweep is launched, so what is edited while it waits does not change it, and one whose configuration
cannot work is refused before any is started, while the others run. Jobs meet in the store: a sweep that was interrupted is launched again with the
same command, and builds only what is missing.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from skinaug import termination
from skinaug.errors import Ended
from skinaug.launch.failures import failed, fault_of_input, message_of, refusal
from skinaug.launch.overrides import by_key
from skinaug.launch.pools import PoolWatch
from skinaug.launch.standing import Standing
from skinaug.launch.time_left import TimeLeft
from skinaug.report.unfinished import STANDING, Asked

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
            return refusal(ended.message)

    @property
    def folder(self) -> Path:
        """Where people look for what it has written."""
        return Path(os.path.abspath(self.cfg.hydra.sweep.dir)) / str(self.cfg.hydra.sweep.subdir)


class SweepLauncher(Launcher):
    """Composes and checks a sweep's jobs, runs those that can work (`run`), and tells which have failed.

    Attributes:
        apart: what sets each job apart from the others, by its number.
        told: name and reason of each job that has failed so far.
        standing: what has become of the jobs, which is written into the sweep's folder whenever one ends.
        judged: keys of what the jobs are to build, as far as its parts are judged (`pipeline.check`): jobs share most of it.
    """

    kind: type[Job] = Job
    has_logs = True  # what a job prints goes into its own file

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config
        self.apart: dict[int, str] = {}
        self.told: list[tuple[str, str]] = []
        self.standing = Standing(failed=self.told)
        self.judged: set[str] = set()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        asked = dict(enumerate(job_overrides, initial_job_idx))
        for number, own in asked.items():
            names = [name for name in own if not all(name in other for other in job_overrides)]
            self.apart[number] = " ".join(names)
        jobs: list[Job] = []
        results: dict[int, JobReturn] = {}
        for number, overrides in asked.items():
            cfg = None
            try:
                cfg = self.compose(overrides, number)
                self.check(cfg)
                jobs.append(self.kind(number, cfg, self.context, self.task))
            except Exception as error:
                if (fault := fault_of_input(error)) is None:
                    raise
                results[number] = refusal(fault)
            self.standing.jobs[number] = asked_for(cfg, overrides, self.config)
            if number in results:
                self.tell_end(number, results[number], "refused", None)
        folder = Path(os.path.abspath(self.config.hydra.sweep.dir))
        self.standing.total += len(asked)
        self.tell_standing(folder, ended=False, jobs=len(jobs))
        with ExitStack() as running, Progress(
            TextColumn("jobs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[told]}"),
            console=console, transient=True, disable=not self.has_logs,
        ) as progress:  # fmt: skip
            bar = progress.add_task("jobs", total=len(jobs), told="")
            show = partial(progress.update, bar)
            watch = PoolWatch(
                {job.number: without_hydra(job.cfg) for job in jobs}, self.task.stage, self.apart, warn
            )  # type: ignore[attr-defined]
            running.enter_context(watch.looking())
            for job, result in self.run(jobs, lambda told: self.show(told, show)) if jobs else ():
                watch.look()
                results[job.number] = result
                progress.advance(bar)
                verdict = "failed" if failed(result) else "done"
                self.tell_end(job.number, result, verdict, job.folder / LOG if self.has_logs else None)
                self.standing.done += verdict == "done"
                self.tell_standing(folder, ended=False, jobs=len(jobs))
        # As far as is known: a search may ask for more.
        self.tell_standing(folder, ended=True, jobs=len(jobs))
        return [results[number] for number in asked]

    def tell_standing(self, folder: Path, ended: bool, jobs: int) -> None:
        """Write what has become of the jobs into the sweep's folder, which a sweep without a job that can run does not get."""
        self.standing.ended = ended
        if jobs or (folder / STANDING).exists():
            self.standing.write(folder)

    def planned(self, jobs: Sequence[Job]) -> TimeLeft:
        """What the jobs have to build, which is told."""
        left = TimeLeft([without_hydra(job.cfg) for job in jobs], self.task.stage)  # type: ignore[attr-defined]
        console.print(escape(left.begin(side_by_side=self.has_logs)), highlight=False, soft_wrap=True)
        return left

    def show(self, told: str, progress: Callable[..., None]) -> None:
        """How things stand: beside the progress, where nothing else is printed."""
        if self.has_logs:
            progress(told=told)
        else:
            console.print(escape(told), highlight=False, soft_wrap=True)

    def tell_end(self, number: int, result: JobReturn, verdict: str, log: Path | None) -> None:
        """Print what became of a job, and keep it where it has failed."""
        name = f"job {number} {self.apart[number]}".rstrip()
        if failed(result):
            self.told.append((f"{name} ({log})" if log else name, message_of(result)))
            self.standing.jobs[number] = replace(self.standing.jobs[number], reason=message_of(result))
        # A job that was lost, or not started, could not tell itself.
        silent = verdict == "refused" or isinstance(result._return_value, Ended)
        said = message_of(result) if silent else last_line(log) if log else ""
        shown = verdict if verdict == "done" else f"[red]{verdict}[/red]"
        told = escape(f"{self.apart[number]}  {said}".rstrip())
        console.print(f"job {number} {shown}: {told}", highlight=False, soft_wrap=True)

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """A job's configuration."""
        cfg = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = f"{cfg.hydra.job.name}_{number}", number
            cfg.hydra.sweep.dir = os.path.abspath(
                cfg.hydra.sweep.dir
            )  # a name with the time in it stays as it is
        return cfg

    def check(self, cfg: DictConfig) -> None:
        """Refuse a job whose configuration cannot work. Raises InputError."""
        from skinaug.launch.selections import refuse_repeated_sets
        from skinaug.pipeline import check, check_kept, steps

        HydraConfig.instance().set_config(cfg)
        job = without_hydra(cfg)
        refuse_repeated_sets(job, cfg.hydra.overrides.task)
        plan = steps(job, self.task.stage)  # type: ignore[attr-defined]
        check(job, plan, self.judged)
        check_kept(job, plan)

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


def warn(told: str) -> None:
    console.print(f"[yellow]{escape(told)}[/yellow]", highlight=False, soft_wrap=True)


def asked_for(cfg: DictConfig | None, overrides: Sequence[str], sweep: DictConfig) -> Asked:
    """What a report tells of a job that leaves nothing.

    cfg: the job's; None where it cannot be composed: then its overrides and the sweep's configuration say what they can.
    """
    own, said = by_key(overrides), sweep if cfg is None else cfg
    arm = OmegaConf.select(said, "mix.name")
    if cfg is None or arm is None:
        arm = own.get("mix", arm)
    seed = own.get("seed", said.seed) if cfg is None else said.seed
    # Of a seed that is no number the overrides tell.
    return Asked(str(said.name), str(arm), int(seed) if str(seed).isdecimal() else 0, own)


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
