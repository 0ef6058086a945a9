"""`hydra/launcher=slurm`: jobs of a sweep on a cluster."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from rich.console import Console

from skinaug.errors import Ended, InputError, plural
from skinaug.launch.jobs import LOG, Job, SweepLauncher, waves

LOOK = 2.0  # seconds between looks at the cluster's queue
GRACE = 30.0  # seconds that a shared file system may take to show what an ended job has written

console = Console()


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
        self.planned(jobs)
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
            f"Slurm has {plural(len(sent), 'job')} ({arrays}); logs in {jobs[0].folder.parent}/<job>/{LOG}. They go on if this command is "
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
        tell("squeue does not answer" if states is None else ", ".join(counts))
        if sent:
            time.sleep(LOOK)


def queue() -> dict[str, str] | None:
    """The state of each of the user's jobs that Slurm waits with or runs, by job id; None where it does not answer."""
    for mine in ("--me", f"--user={getpass.getuser()}"):  # Slurm knows the first since 20.02
        command = ["squeue", mine, "--noheader", "--array", "--format=%i %T"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    return None


def outcome(handle: Any) -> JobReturn:
    """What became of a Slurm job that has written its result."""
    try:
        return handle.result()
    except Exception as error:  # of the job, or of reading what it has written
        return JobReturn(status=JobStatus.FAILED, _return_value=error)
