"""`hydra/launcher=joblib`: jobs of a sweep in several processes of one box."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.utils import JobReturn, JobStatus
from rich.console import Console

from skinaug.devices.spread import devices, own_cores
from skinaug.errors import Ended, InputError
from skinaug.launch.jobs import LOG, Job, SweepLauncher, waves

console = Console()


class JoblibLauncher(SweepLauncher):
    """Jobs in processes of one box, by joblib; each process keeps its own GPUs, or its own share of the cores.

    Args:
        n_jobs: how many at once; auto: one a GPU (or as many as each job takes), without GPUs one for two cores.
    """

    def __init__(self, n_jobs: int | str) -> None:
        if n_jobs != "auto" and not (type(n_jobs) is int and n_jobs > 0):
            raise InputError(f"hydra.launcher.n_jobs must be auto or a whole number above 0, got {n_jobs!r}")
        self.n_jobs = n_jobs

    def run(self, jobs: list[Job], tell: Callable[[str], None]) -> Iterator[tuple[Job, JobReturn]]:
        import joblib
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        self.planned(jobs)
        each = devices(jobs[0].cfg)
        gpus = [] if jobs[0].cfg.trainer.accelerator == "cpu" else visible_gpus()
        cores = own_cores()
        most = max(len(gpus) // each, 1) if gpus else max(len(cores) // max(each, 2), 1)
        count = min(most if isinstance(self.n_jobs, str) else self.n_jobs, len(jobs))
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
