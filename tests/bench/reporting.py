"""A report of a thousand runs: seconds and peak memory, in a process of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skinaug.report import collect
from skinaug.report.report import report
from tests.bench.process import Run, run
from tests.report.conftest import write_sweep

REAL = (10, 15, 25, 40, 60, 90, 140, 200)  # images a class
SYNTHETIC = (*range(0, 100, 10), *range(100, 400, 20))


def write(folder: Path, real: Sequence[int], synthetic: Sequence[int], seeds: int, tests: int) -> None:
    """Draw a sweep, with an arm for each pair of counts."""
    arms = {
        f"{some}, {more}": (some, more, 0.4 * (some + more / 4) ** 0.2 - 1.0)
        for some in real
        for more in synthetic
    }

    def overrides(arm: str) -> dict[str, Any]:
        some, more = arm.split(", ")
        return {"mix.real_per_class": some, "mix.synthetic_per_class": more}

    write_sweep(folder / "sweep", folder / "store", arms, overrides, seeds=seeds, tests=tests, size=32)


def make(folder: str) -> dict[str, Any]:
    """Report on the sweep in `folder` as the command does: how long that took, and the page's size."""
    place = Path(folder)
    start, busy = time.perf_counter(), time.process_time()
    runs = collect.name_arms(collect.distinct(collect.read_runs(place / "sweep")))
    (place / "report").mkdir(exist_ok=True)
    report(runs, out=place / "report")
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    page = (place / "report" / "report.html").stat().st_size
    return {"runs": len(runs), "seconds": seconds, "cpu_seconds": busy, "page_mb": page / 1e6}


def row(
    run: Run = run,
    real: Sequence[int] = REAL,
    synthetic: Sequence[int] = SYNTHETIC,
    seeds: int = 5,
    tests: int = 100,
) -> tuple[str, str]:
    """A line for the table of figures: of 200 arms and 1,000 runs. tests: test images of each of six classes."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), real, synthetic, seeds, tests)
        found = run("reporting", "make", folder=folder)
    took = f"{found['seconds']:.1f} s ({found['cpu_seconds']:.1f} s of one core)"
    about = f"{took}, peak {found['peak_gb']:.2f} GB, page {found['page_mb']:.1f} MB"
    return f"report of {found['runs']:,} runs", about
