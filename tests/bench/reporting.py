"""A report of a thousand runs: seconds and peak memory, in a process of its own."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from skinaug.report import collect
from skinaug.report.report import report
from tests.report.conftest import write_sweep

REAL = (10, 15, 25, 40, 60, 90, 140, 200)  # images a class
SYNTHETIC = (*range(0, 100, 10), *range(100, 400, 20))
SEEDS, TESTS = 5, 100  # test images: of each of six classes


def write(folder: Path) -> None:
    """Draw a sweep of 200 arms and 1,000 runs."""
    arms = {
        f"{real}, {synthetic}": (real, synthetic, 0.4 * (real + synthetic / 4) ** 0.2 - 1.0)
        for real in REAL
        for synthetic in SYNTHETIC
    }

    def overrides(arm: str) -> dict[str, Any]:
        real, synthetic = arm.split(", ")
        return {"mix.real_per_class": real, "mix.synthetic_per_class": synthetic}

    write_sweep(folder / "sweep", folder / "store", arms, overrides, seeds=SEEDS, tests=TESTS, size=32)


def main(folder: Path) -> None:
    """Report on the sweep in `folder` as the command does, and print how long that took."""
    start, busy = time.perf_counter(), time.process_time()
    runs = collect.name_arms(collect.distinct(collect.read_runs(folder / "sweep")))
    (folder / "report").mkdir(exist_ok=True)
    report(runs, out=folder / "report")
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    page = (folder / "report" / "report.html").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {"runs": len(runs), "seconds": seconds, "cpu_seconds": busy}
    print(json.dumps({**figures, "peak_gb": peak / 1e9, "page_mb": page / 1e6}))


def row() -> tuple[str, str]:
    """A line for the table of figures."""
    from tests.bench import measure  # which imports torch: not in the process that is measured

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        found = measure.run("reporting", folder)
    took = f"{found['seconds']:.1f} s ({found['cpu_seconds']:.1f} s of one core)"
    about = f"{took}, peak {found['peak_gb']:.2f} GB, page {found['page_mb']:.1f} MB"
    return f"report of {found['runs']:,} runs", about


if __name__ == "__main__":
    main(Path(sys.argv[1]))
