"""Where the jobs of a sweep run beside each other: `hydra/launcher=slurm` on a cluster, `hydra/launcher=joblib` on one box.

A job is composed when the sweep is launched, so what is edited while it waits does not change it, and one whose configuration
cannot work is refused before any is started. Jobs meet in the store: a sweep that was interrupted is launched again with the
same command, and builds only what is missing.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from skinaug import termination
from skinaug.errors import Ended, InputError

LOG = "log.txt"  # in a job's folder
LOOK = 2.0  # seconds between looks at the cluster's queue
GRACE = 30.0  # seconds that a shared file system may take to show what an ended job has written

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
        from skinaug import configs

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


class SlurmJob(Job):
    """A job on a cluster, which goes back into the queue when its time is up or somebody else needs its place."""

    def __call__(self) -> JobReturn | None:  # type: ignore[override]
        import submitit

        if submitit.JobEnvironment().global_rank != 0:
            return None  # the other machines of the job are there for stages on several devices
        number = submitit.JobEnvironment._usr_sig()
        requeue: Callable[..., Any] = signal.getsignal(number)  # type: ignore[assignment]
        preempted = False

        def preempt(*_: Any) -> None:
            nonlocal preempted
            preempted = True
            os.kill(os.getpid(), signal.SIGTERM)  # a checkpoint first

        signal.signal(number, preempt)
        try:
            return super().__call__()
        except SystemExit:
            if preempted:
                requeue(number, None)
            raise

    def checkpoint(self) -> Any:
        """What submitit puts into the queue again: the same job, which finds its work in the store."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


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
        from skinaug.checks import check

        cfg = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = f"{cfg.hydra.job.name}_{number}", number
            cfg.hydra.sweep.dir = os.path.abspath(
                cfg.hydra.sweep.dir
            )  # a name with the time in it stays as it is
        HydraConfig.instance().set_config(cfg)
        check(without_hydra(cfg), self.task.stage)  # type: ignore[attr-defined]
        return cfg

    def run(self, jobs: list[Job], tell: Callable[[str], None]) -> Iterator[tuple[Job, JobReturn]]:
        """Run jobs; yields each with its result as it ends. `tell` shows how things stand."""
        raise NotImplementedError


class SlurmLauncher(SweepLauncher):
    """Jobs as a Slurm job array, by submitit.

    Args:
        max_num_timeout: how often a job whose time is up goes back into the queue.
        parameters: of submitit's AutoExecutor, Slurm's with the prefix `slurm_`.
    """

    kind = SlurmJob

    def __init__(self, max_num_timeout: int, **parameters: Any) -> None:
        given: Any = OmegaConf.to_container(OmegaConf.create(parameters), resolve=True)
        self.parameters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self.max_num_timeout = max_num_timeout

    def run(self, jobs: list[Job], tell: Callable[[str], None]) -> Iterator[tuple[Job, JobReturn]]:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise InputError(
                "hydra/launcher=slurm needs submitit: pip install 'skinaug[cluster]'."
            ) from error
        if shutil.which("sbatch") is None:
            raise InputError(
                "hydra/launcher=slurm: there is no sbatch here. Launch from a machine of the cluster."
            )
        folder = jobs[0].folder.parent / "slurm"
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=self.max_num_timeout)
        sent: dict[str, tuple[Job, Any]] = {}
        before: list[str] = []
        for wave in waves(jobs):
            parameters = dict(self.parameters)
            if before:  # ended in whichever way: what is missing then is built by who needs it
                parameters["slurm_dependency"] = "afterany:" + ":".join(before)
            executor.update_parameters(**parameters)
            with executor.batch():
                submitted = [executor.submit(job) for job in wave]
            before = sorted({handle.job_id.partition("_")[0] for handle in submitted})
            for job, handle in zip(wave, submitted, strict=True):
                sent[handle.job_id] = job, handle.task(0)
                job.folder.mkdir(parents=True, exist_ok=True)
                (job.folder / LOG).symlink_to(os.path.relpath(handle.task(0).paths.stdout, job.folder))
        arrays = " ".join(dict.fromkeys(name.partition("_")[0] for name in sent))
        console.print(
            f"Slurm has {len(sent)} jobs ({arrays}); logs in {jobs[0].folder.parent}/<job>/{LOG}. They go on if this command is "
            f"stopped; `scancel {arrays}` stops them.",
            highlight=False,
        )
        yield from wait(sent, tell)


def wait(sent: dict[str, tuple[Job, Any]], tell: Callable[[str], None]) -> Iterator[tuple[Job, JobReturn]]:
    """Jobs with their results, as they end.

    Asks squeue, which every cluster has, and not the accounting, which many lack.
    """
    gone: dict[str, float] = {}  # jobs that are in no queue, and since when
    while sent:
        states = queue()
        for name, (job, handle) in list(sent.items()):
            if handle.paths.result_pickle.exists():
                yield job, outcome(handle)
                del sent[name]
            elif states is not None and name not in states:
                gone.setdefault(name, time.monotonic())
                if time.monotonic() - gone[name] > GRACE:
                    lost = Ended(1, "ended without a result: cancelled, killed or out of memory")
                    yield job, JobReturn(status=JobStatus.FAILED, _return_value=lost)
                    del sent[name]
            else:
                gone.pop(name, None)
        counts = (
            [
                f"{state.lower()} {sum(states[n] == state for n in sent if n in states)}"
                for state in sorted({*states.values()})
            ]
            if states
            else []
        )
        tell(", ".join(counts))
        if sent:
            time.sleep(LOOK)


def queue() -> dict[str, str] | None:
    """The state of each of the user's jobs that Slurm waits with or runs, by job id; None where it does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %T"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return None
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


def outcome(handle: Any) -> JobReturn:
    """What became of a Slurm job that has written its result."""
    try:
        return handle.result()
    except Exception as error:  # of the job, or of reading what it has written
        return JobReturn(status=JobStatus.FAILED, _return_value=error)


class JoblibLauncher(SweepLauncher):
    """Jobs in processes of one box, by joblib; each process keeps its own GPUs, or its own share of the cores.

    Args:
        n_jobs: how many at once; auto: one a GPU (or as many as each job takes), without GPUs one for two cores.
    """

    def __init__(self, n_jobs: int | str) -> None:
        self.n_jobs = n_jobs

    def run(self, jobs: list[Job], tell: Callable[[str], None]) -> Iterator[tuple[Job, JobReturn]]:
        import joblib
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        from skinaug.devices import devices, own_cores

        each = devices(jobs[0].cfg)
        gpus = [] if jobs[0].cfg.trainer.accelerator == "cpu" else visible_gpus()
        cores = own_cores()
        most = max(len(gpus) // each, 1) if gpus else max(len(cores) // max(each, 2), 1)
        count = min(most if self.n_jobs == "auto" else int(self.n_jobs), len(jobs))
        with tempfile.TemporaryDirectory() as places:
            pins = pinned(gpus, cores, count, each)
            for wave in waves(jobs):
                left = deque([wave, wave])  # a worker that is killed takes the others with it: once more
                waiting = {job.number: job for job in wave}
                while left and waiting:
                    left.popleft()
                    tell(f"{min(count, len(waiting))} at once")
                    pool = joblib.Parallel(
                        count, backend="loky", return_as="generator_unordered", batch_size=1
                    )
                    try:
                        with joblib.parallel_config("loky", inner_max_num_threads=len(pins[0][1])):
                            for number, result in pool(
                                joblib.delayed(run_pinned)(job, Path(places), pins)
                                for job in [*waiting.values()]
                            ):
                                yield waiting.pop(number), result
                    except TerminatedWorkerError as error:
                        console.print(f"[yellow]A worker died[/yellow] ({error}).")
                for job in waiting.values():
                    died = Ended(1, "its process was killed, or ran out of memory")
                    yield job, JobReturn(status=JobStatus.FAILED, _return_value=died)


Pin = tuple[list[str], list[int]]  # GPUs and cores of a process


def visible_gpus() -> list[str]:
    """The names under which CUDA shows its GPUs here."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def pinned(gpus: Sequence[str], cores: Sequence[int], count: int, each: int) -> list[Pin]:
    """GPUs and cores of each of `count` processes: `each` GPUs, round robin, and an equal share of the cores, one at least."""
    pins = []
    for number in range(count):
        own = [gpus[(number * each + k) % len(gpus)] for k in range(each)] if gpus else []
        share = cores[len(cores) * number // count : len(cores) * (number + 1) // count]
        pins.append((own, list(share) or [cores[number % len(cores)]]))
    return pins


_place: FileLock | None = None  # that this process holds as long as it lives


def run_pinned(job: Job, places: Path, pins: Sequence[Pin]) -> tuple[int, JobReturn]:
    """Run a job in a worker, which takes a free pin with its first one. What the job prints goes into its log."""
    global _place
    for number, (gpus, cores) in enumerate(pins if _place is None else ()):
        lock = FileLock(places / f"{number}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _place = lock
        # joblib's own way to start processes would be that of a DataLoader's workers, too, and cannot start them.
        multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        os.environ["POLARS_MAX_THREADS"] = str(len(cores))  # joblib sets the others
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        break
    job.folder.mkdir(parents=True, exist_ok=True)
    with printing_to(job.folder / LOG):
        return job.number, job()


@contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """Everything that this process and its libraries and children print goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in enumerate(before, 1):
            os.dup2(old, number)
            os.close(old)


def waves(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs in the order in which they can run without waiting for each other: of those that need the same missing artifact, one
    comes first and the others in a later wave, when it is there."""
    from skinaug.recipes import recipes
    from skinaug.store import Store

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
