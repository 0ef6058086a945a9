"""`make bench`: our way and the plain way on the same work, in one run, as a ratio, with peak memory."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from skinaug.base import load_pipeline
from skinaug.dataset.phantom.render import render
from skinaug.dataset.phantom.source import condition_picture
from skinaug.images import load_pixels, open_image, square
from skinaug.manifest import Manifest
from skinaug.mix.mix import Mix

EPOCHS = 5
STEPS = 12


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def phantoms(count: int = 200) -> float:
    """Rendered photographs a second on one core, 64 px."""
    pictures = [condition_picture("psoriasis", patient, 0, 0) for patient in range(count)]
    return count / seconds(lambda: [render(picture, 64, rng) for picture, rng, _ in pictures])


def decoding(folder: Path, count: int = 300) -> tuple[float, float]:
    """Seconds for five epochs' pictures of 600 x 450 px: decoded once and cached, against decoded every epoch."""
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        Image.fromarray(rng.integers(0, 256, (450, 600, 3), np.uint8)).save(path)
        rows.append(
            {
                "image_id": str(number),
                "path": path.name,
                "label": "a",
                "split": "train",
                "group_id": str(number),
            }
            | {"source": "real", "width": 600, "height": 450, "sha256": f"{number:064x}"}
        )
    manifest = Manifest(pl.DataFrame(rows), folder, ("a",))
    ours = seconds(lambda: [load_pixels(manifest, 64, folder / "cache.sqlite") for _ in range(EPOCHS)])
    plain = seconds(
        lambda: [[square(open_image(path), 64) for path in manifest.paths()] for _ in range(EPOCHS)]
    )
    return ours, plain


def generation(folder: Path, per_class: int = 16) -> tuple[float, float]:
    """Seconds for the same prompts, steps and scheduler: our stage, against one pipeline call an image."""
    from functools import partial

    from diffusers import DPMSolverMultistepScheduler

    from skinaug.generate.generate import generate
    from skinaug.prompts import PromptSet
    from skinaug.trainer import make_trainer

    base = partial(load_pipeline, path="package://tiny")
    prompts = PromptSet("bench", ["a photo of {label} on the arm, skin type III"])
    (folder / "labels.json").write_text('{"psoriasis": "red scaly patches", "nevus": "one brown spot"}')
    out = folder / "pool"
    out.mkdir()
    trainer = partial(make_trainer, accelerator="auto")
    stage = partial(generate, per_class, 2.5, STEPS, "dpmsolver++", 64, 32, 0)
    run = partial(stage, classes=("psoriasis", "nevus"), weights=folder, base=base, prompts=prompts)
    ours = seconds(partial(run, trainer=trainer, logger=False, out=out))
    pipeline = base()
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    texts = Manifest.read(out).table["prompt"].to_list()
    draw = partial(pipeline, num_inference_steps=STEPS, guidance_scale=2.5, height=64, width=64)
    plain = seconds(lambda: [draw(text) for text in texts])
    return ours, plain


def mixing(folder: Path, count: int = 1_000_000) -> float:
    """Seconds to draw a mix from a pool of a million rows."""
    number = pl.int_range(count, eager=True)
    table = pl.DataFrame({"image_id": number.cast(pl.String), "label": (number % 6).cast(pl.String)}).with_columns(
        path=pl.col("image_id"), split=pl.lit("train"), group_id=pl.col("image_id"), source=pl.lit("real"),
        width=pl.lit(64), height=pl.lit(64), sha256=pl.lit("0"),
    )  # fmt: skip
    real = Manifest(table, folder, tuple("012345"))
    return seconds(lambda: Mix("bench", real_ratio=0.5)(real))


def main() -> None:
    """Print one table."""
    table = Table(
        "what",
        "ours",
        "plain",
        "ratio",
        title=f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}",
    )
    table.add_row("phantoms, 64 px, one core", f"{phantoms():.0f} images/s", "", "")
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = decoding(Path(folder))
        table.add_row(f"decoding, {EPOCHS} epochs", f"{ours:.2f} s", f"{plain:.2f} s", f"{plain / ours:.1f}x")
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = generation(Path(folder))
        row = (f"{32 / ours:.1f} images/s", f"{32 / plain:.1f} images/s", f"{plain / ours:.1f}x")
        table.add_row(f"generation, tiny base, {STEPS} steps", *row)
    with tempfile.TemporaryDirectory() as folder:
        table.add_row("mix of 1,000,000 rows", f"{mixing(Path(folder)):.1f} s", "", "")
    Console().print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    Console().print(f"peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
