"""`make bench`: our way and the plain way on the same work, in one run, as a ratio, with peak memory and the floor."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from skinaug.models.trainer import pick_precision
from tests.bench import (
    bases,
    classifying,
    finetuning,
    generation,
    measure,
    memory,
    neighbours,
    parts,
    process,
    reporting,
    sweeping,
)
from tests.bench.process import Run

LOSSES_AGREE, PICTURES_AGREE = 0.05, 2.0  # relative; mean levels of 255

Size = Mapping[str, Any]  # keywords of a part


def training_rows(
    table: Table, base: str, folder: Path, matmul: float, run: Run, times: int, size: Size
) -> None:
    """Training steps of each method."""
    for method in finetuning.METHODS:
        what = {"method": method, "base": base, "folder": folder, **size}
        ours, plain = process.turns(run, "finetuning", {"ours": {}, "plain": {}}, times, **what)
        apart = max(abs(a - b) / b for a, b in zip(ours["losses"], plain["losses"], strict=True))
        flops = measure.denoiser_flops(
            bases.load(base, folder).to(measure.device()), bases.SIZES[base], backward=True
        )
        agree = f"losses within {apart:.1%}" + ("" if apart < LOSSES_AGREE else ": DISAGREE")
        add(table, f"{method}, {base}", ours, plain, flops / matmul, agree)


def drawing_rows(
    table: Table, base: str, folder: Path, matmul: float, run: Run, times: int, size: Size
) -> None:
    """Pictures, against a pipeline's call a prompt and a call for many."""
    at_once = (1, generation.MANY[base])
    ways = {"ours": size, **{f"plain {count}": {"at_once": count} for count in at_once}}
    ours, *plain_ones = process.turns(run, "generation", ways, times, base=base, folder=folder)
    flops = measure.denoiser_flops(
        bases.load(base, folder).to(measure.device()), bases.SIZES[base], backward=False
    )
    for count, plain in zip(at_once, plain_ones, strict=True):
        apart = plain["apart"]
        agree = f"pictures within {apart:.2f} levels" + ("" if apart < PICTURES_AGREE else ": DISAGREE")
        name = f"generation, {base}, plain: {count} a call"
        add(table, name, ours, plain, 2 * ours["steps"] * flops / matmul, agree)


def add(table: Table, name: str, ours: dict, plain: dict, floor_seconds: float, agree: str) -> None:
    """One comparison; floor_seconds: an image's denoiser calls at the rate of a large matrix product."""
    rates = [f"{run['rate']:.2f}" for run in (ours, plain)]
    memory = f"{ours['peak_gb']:.2f} / {plain['peak_gb']:.2f}"
    table.add_row(
        name,
        *rates,
        f"{ours['rate'] / plain['rate']:.2f}x",
        memory,
        f"{ours['rate'] * floor_seconds:.0%}",
        agree,
    )


def main(
    run: Run = process.run,
    console: Console | None = None,
    names: Sequence[str] | None = None,
    times: int = 3,
    sizes: Mapping[str, Size] | None = None,
) -> None:
    """Print the tables.

    Args:
        run: runs a part whose peak memory counts.
        names: of the bases; None: the tiny one and, with a GPU, Stable Diffusion 1.5's architecture.
        times: how often each way of training, drawing and classifying runs; the middle run counts.
        sizes: of the parts, by module; those of experiments/speed.md where they are not given.
    """
    gpu = torch.cuda.is_available()
    size = defaultdict(dict, sizes or {})
    precision = pick_precision("auto", gpu)
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    matmul = measure.matmul_flops(dtype, **size["measure"])
    where = torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} CPU threads"
    title = f"images/s on {where}, torch {torch.__version__}, {precision}, matrix product {matmul / 1e12:.2f} TFLOP/s"
    table = Table("what", "ours", "plain", "ratio", "peak GB", "of floor", "agreement", title=title)
    with tempfile.TemporaryDirectory() as folder:
        for base in names or (("tiny", "sd15") if gpu else ("tiny",)):
            place = Path(folder) / base
            place.mkdir()
            training_rows(table, base, place, matmul, run, times, size["finetuning"])
            drawing_rows(table, base, place, matmul, run, times, size["generation"])
    console = console or Console(width=130)
    console.print(table)
    other = Table("what", "figure")
    found = (
        lambda: parts.rows(**size["parts"]),
        lambda: classifying.rows(run, times, **size["classifying"]),
        lambda: neighbours.rows(run, **size["neighbours"]),
        lambda: [reporting.row(run, **size["reporting"])],
        lambda: sweeping.rows(run, **size["sweeping"]),
        lambda: memory.rows(run, **size["memory"]),
    )
    try:
        for rows in found:
            for row in rows():
                other.add_row(*row)
    finally:  # what was measured is told even where a part fails
        console.print(other)


if __name__ == "__main__":
    main()
