"""`make bench`: our way and the plain way on the same work, in one run, as a ratio, with peak memory and the floor."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from skinaug.models.trainer import pick_precision
from tests.bench import bases, finetuning, generation, measure, neighbours, parts, reporting, sweeping

LOSSES_AGREE, PICTURES_AGREE = 0.05, 2.0  # relative; mean levels of 255


def training_rows(table: Table, base: str, folder: Path, matmul: float) -> None:
    """Training steps of each method."""
    for method in finetuning.METHODS:
        ours, plain = (measure.run("finetuning", way, method, base, folder) for way in ("ours", "plain"))
        apart = max(abs(a - b) / b for a, b in zip(ours["losses"], plain["losses"], strict=True))
        flops = measure.denoiser_flops(
            bases.load(base, folder).to(measure.device()), bases.SIZES[base], backward=True
        )
        agree = f"losses within {apart:.1%}" + ("" if apart < LOSSES_AGREE else ": DISAGREE")
        add(table, f"{method}, {base}", ours, plain, flops / matmul, agree)


def drawing_row(table: Table, base: str, folder: Path, matmul: float) -> None:
    """Pictures."""
    ours, plain = (measure.run("generation", way, base, folder) for way in ("ours", "plain"))
    flops = measure.denoiser_flops(
        bases.load(base, folder).to(measure.device()), bases.SIZES[base], backward=False
    )
    apart = plain["apart"]
    agree = f"pictures within {apart:.2f} levels" + ("" if apart < PICTURES_AGREE else ": DISAGREE")
    add(table, f"generation, {base}", ours, plain, 2 * generation.STEPS[base] * flops / matmul, agree)


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


def main() -> None:
    """Print the tables. With a GPU, Stable Diffusion 1.5's architecture is measured too."""
    gpu = torch.cuda.is_available()
    precision = pick_precision("auto", gpu)
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    matmul = measure.matmul_flops(dtype)
    where = torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} CPU threads"
    title = f"images/s on {where}, torch {torch.__version__}, {precision}, matrix product {matmul / 1e12:.2f} TFLOP/s"
    table = Table("what", "ours", "plain", "ratio", "peak GB", "of floor", "agreement", title=title)
    with tempfile.TemporaryDirectory() as folder:
        for base in ("tiny", "sd15") if gpu else ("tiny",):
            place = Path(folder) / base
            place.mkdir()
            training_rows(table, base, place, matmul)
            drawing_row(table, base, place, matmul)
    console = Console(width=130)
    console.print(table)
    other = Table("what", "figure")
    other.add_row("phantoms, 64 px, one core", f"{parts.phantoms():.0f} images/s")
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = parts.decoding(Path(folder))
        other.add_row(
            f"decoding 600 x 450 px, {parts.EPOCHS} epochs",
            f"{ours:.2f} s, plain {plain:.2f} s: {plain / ours:.1f}x",
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, taken in parts.mixing(Path(folder)).items():
            other.add_row(f"mix from 1,000,000 rows, {name}", f"{taken:.1f} s")
    for name, figure in neighbours.rows():
        other.add_row(name, figure)
    other.add_row(*reporting.row())
    for name, figure in sweeping.rows():
        other.add_row(name, figure)
    console.print(other)


if __name__ == "__main__":
    main()
