"""A ratio sweep of 12 jobs against 12 runs that each generate, decode and import alone, and what a job costs beyond its training.

CPU seconds of the process, so that the machine's other work does not count; W&B's own process is not in them.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The demo's sizes, but a pool of 50 images a class that no fine-tuning and no filter has to be paid for: the whole pipeline
# would save more.
POOL = ["scale=demo", "finetune=none", "filter=[]", "scale.generate_per_class=50", "mix=hybrid"]
ARMS = ["mix.real_per_class=25,50", "mix.synthetic_per_class=12,25,50"]
ALONE = [
    "mix.real_per_class=50",
    "mix.synthetic_per_class=25",
    "seed=0",
]  # of average cost; only the pool counts much
JOBS = 12


def main(folder: Path, *overrides: str) -> None:
    """Run `skinaug classify` in a folder and print its CPU seconds, and of every job but the first those beyond its training."""
    from hydra.core.plugins import Plugins

    Plugins.instance()  # loads Hydra's sweeper anew: whatever imports it must come after
    from skinaug.__main__ import main as skinaug
    from skinaug.classify import fit
    from skinaug.cli import execute as commands

    os.chdir(folder)
    ends: list[float] = []  # of jobs, in CPU seconds
    fits: list[float] = []  # CPU seconds of each job's training
    judging: list[float] = []  # and of each set of pictures that it judges
    execute, train, judge = commands.execute, fit.train_network, fit.Classifier.__call__

    def timed_execute(*arguments: Any) -> Any:
        result = execute(*arguments)
        ends.append(time.process_time())
        return result

    def timed_train(*arguments: Any) -> Any:
        start = time.process_time()
        result = train(*arguments)
        fits.append(time.process_time() - start)
        return result

    def timed_judge(*arguments: Any) -> Any:
        start = time.process_time()
        result = judge(*arguments)
        judging.append(time.process_time() - start)
        return result

    commands.execute, fit.train_network = timed_execute, timed_train
    fit.Classifier.__call__ = timed_judge  # type: ignore[method-assign]
    status = skinaug(["classify", *overrides])
    assert status == 0, f"skinaug classify ended with {status}"
    jobs = zip(ends[:-1], ends[1:], fits[1:], strict=True)
    beyond = [end - earlier - training for earlier, end, training in jobs]
    judged = sum(judging) / len(ends)
    print(json.dumps({"seconds": time.process_time(), "beyond": beyond, "judging": judged}))


def rows() -> list[tuple[str, str]]:
    """Lines for the table of figures."""
    from tests.bench import measure  # which imports torch: not in the processes that are measured

    with tempfile.TemporaryDirectory() as folder:
        together, alone = Path(folder, "together"), Path(folder, "alone")
        together.mkdir()
        alone.mkdir()
        sweep = measure.run("sweeping", together, "-m", *POOL, *ARMS, "seed=0,1")
        single = measure.run("sweeping", alone, *POOL, *ALONE)
        # The pool is there by now.
        short = ["-m", *POOL, *ARMS, "seed=2", "classify.steps=20", "logger=none"]
        untracked = measure.run("sweeping", together, *short)
    share = sweep["seconds"] / (JOBS * single["seconds"])
    each = statistics.mean(sweep["beyond"]), statistics.mean(untracked["beyond"])
    told = f"{sweep['seconds']:.0f} s, alone 12 x {single['seconds']:.0f} s (one was run): {share:.0%}"
    return [
        (
            "sweep of 12 ratios, one pool of 300 images (no fine-tuning, no filter)",
            told + ("" if share < 1 / 3 else ": TOO MUCH"),
        ),
        (
            "a job of it beyond its training",
            f"{each[0]:.1f} s with W&B, {each[1]:.1f} s without"
            + ("" if max(each) < 3 else ": TOO MUCH")
            + f"; {untracked['judging']:.1f} s of it to judge the held-out pictures",
        ),
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
