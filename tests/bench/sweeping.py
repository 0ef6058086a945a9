"""A ratio sweep of 12 jobs against 12 runs that each generate, decode and import alone, and what a job costs beyond its training.

CPU seconds of the process, so that the machine's other work does not count; W&B's own process is not in them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from tests.bench.process import Run, run

# The demo's sizes, but a pool that no fine-tuning and no filter has to be paid for: the whole pipeline would save more.
POOL = ("scale=demo_40", "finetune=none", "filter=[]", "mix=hybrid")


def classify(folder: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Run `skinaug classify` in a folder.

    Returns:
        seconds: CPU seconds of the whole; jobs: of every job but the first; beyond: of these, those beyond its training; judging:
        those that a job judges pictures for, on average.
    """
    start = time.process_time()
    from skinaug.__main__ import main as skinaug
    from skinaug.classify import fit
    from skinaug.cli import execute

    ends: list[float] = []  # of jobs, in CPU seconds
    fits: list[float] = []  # CPU seconds of each job's training
    judging: list[float] = []  # and of each set of pictures that it judges
    with ExitStack() as stack:
        stack.enter_context(chdir(folder))
        stack.enter_context(noted(execute, "execute", lambda begun, ended: ends.append(ended)))
        stack.enter_context(noted(fit, "train_network", lambda begun, ended: fits.append(ended - begun)))
        stack.enter_context(
            noted(fit.Classifier, "__call__", lambda begun, ended: judging.append(ended - begun))
        )
        status = skinaug(["classify", *overrides])
    assert status == 0, f"skinaug classify ended with {status}"
    later = fits[len(fits) - len(ends) + 1 :]  # the audit of the first job's pool trains, too
    jobs = [end - earlier for earlier, end in pairwise(ends)]
    return {
        "seconds": time.process_time() - start,
        "jobs": jobs,
        "beyond": [job - training for job, training in zip(jobs, later, strict=True)],
        "judging": sum(judging) / len(ends),
    }


@contextmanager
def noted(owner: Any, name: str, note: Callable[[float, float], object]) -> Iterator[None]:
    """Tell of each call of `owner.name` at which CPU seconds it began and ended."""
    function = getattr(owner, name)

    def timed(*arguments: Any) -> Any:
        begun = time.process_time()
        result = function(*arguments)
        note(begun, time.process_time())
        return result

    with mock.patch.object(owner, name, timed):
        yield


def rows(
    run: Run = run,
    images: int = 50,
    real: Sequence[int] = (20, 40),
    synthetic: Sequence[int] = (12, 25, 50),
    seeds: Sequence[int] = (0, 1),
    steps: int = 20,
    loggers: tuple[str, str] = ("wandb", "none"),
    options: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """Lines for the table of figures.

    Args:
        images: of the pool, of each of six classes.
        real, synthetic: images a class of the arms. The one that is run alone is of average cost; only the pool counts much.
        seeds: of the sweep; the short one after it, which finds the pool, has the next, and one of linear probes that after it.
        steps: of each training of the short sweep.
        loggers: of the sweep and the probes, and of the short one.
        options: further overrides of all of them.
    """
    pool = [*POOL, f"scale.generate_per_class={images}", *options]
    logged, unlogged = (f"logger={name}" for name in loggers)
    arms, one = _arms(real, synthetic), _arms(real[-1:], synthetic[len(synthetic) // 2 :][:1])
    with tempfile.TemporaryDirectory() as folder:
        together, alone = Path(folder, "together"), Path(folder, "alone")
        together.mkdir()
        alone.mkdir()
        every = ["-m", *pool, *arms, logged, f"seed={_values(seeds)}"]
        sweep = run("sweeping", "classify", folder=together, overrides=every)
        single = run(
            "sweeping", "classify", folder=alone, overrides=[*pool, *one, logged, f"seed={seeds[0]}"]
        )
        short = ["-m", *pool, *arms, unlogged, f"seed={max(seeds) + 1}", f"classify.steps={steps}"]
        untracked = run("sweeping", "classify", folder=together, overrides=short)
        probes = ["-m", *pool, *arms, logged, f"seed={max(seeds) + 2}", "classify=probe"]
        probing = run("sweeping", "classify", folder=together, overrides=probes)
    jobs = len(real) * len(synthetic) * len(seeds)
    share = sweep["seconds"] / (jobs * single["seconds"])
    told = f"{sweep['seconds']:.0f} s, alone {jobs} x {single['seconds']:.0f} s (one was run): {share:.0%}"
    each = statistics.mean(sweep["beyond"]), statistics.mean(untracked["beyond"])
    network, probe = statistics.mean(sweep["jobs"]), statistics.mean(probing["jobs"])
    return [
        (
            f"sweep of {jobs} ratios, one pool of {6 * images} images (no fine-tuning, no filter)",
            told + ("" if share < 1 / 3 else ": TOO MUCH"),
        ),
        (
            "a job of it beyond its training",
            f"{each[0]:.1f} s with W&B, {each[1]:.1f} s without"
            + ("" if max(each) < 3 else ": TOO MUCH")
            + f"; {untracked['judging']:.1f} s of it to judge the held-out pictures",
        ),
        (
            "a job of it with a linear probe (classify=probe)",
            f"{probe:.1f} s, with a network that learns {network:.1f} s: {network / probe:.1f}x",
        ),
    ]


def _arms(real: Sequence[int], synthetic: Sequence[int]) -> list[str]:
    return [f"mix.real_per_class={_values(real)}", f"mix.synthetic_per_class={_values(synthetic)}"]


def _values(values: Sequence[int]) -> str:
    return ",".join(map(str, values))
