"""Pictures: our generate stage, and one diffusers pipeline call a prompt.

`python -m tests.bench.generation ours|plain tiny|sd15 <folder>`. `plain` draws what the manifest of `ours` lists, so the pictures agree.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from PIL import Image

from skinaug.generate.generate import generate
from skinaug.images import open_image
from skinaug.manifest import Manifest
from skinaug.models.trainer import make_trainer, pick_precision
from skinaug.prompts import PromptSet
from tests.bench import bases, measure

PHRASES = {"psoriasis": "red scaly patches", "nevus": "one brown spot"}
STEPS = {"tiny": 12, "sd15": 25}
PER_CLASS = {"tiny": 48, "sd15": 16}
GUIDANCE = 2.5


def ours(base: str, folder: Path) -> None:
    """Writes folder/pool; the second, timed run draws again what the first has shown to work."""
    (folder / "labels.json").write_text(json.dumps(PHRASES))
    prompts = PromptSet("bench", ["a photo of {label} on the arm, skin type III", "{label} on the hand"])
    pipeline = bases.load(base, folder)
    stage = partial(
        generate, PER_CLASS[base], GUIDANCE, STEPS[base], "dpmsolver++", bases.SIZES[base], "auto", 0,
        classes=tuple(PHRASES), weights=folder, base=lambda: pipeline, prompts=prompts, trainer=partial(make_trainer, devices=1),
        logger=False,
    )  # fmt: skip
    out = folder / "pool"
    out.mkdir(exist_ok=True)
    start = time.perf_counter()
    stage(out=out)
    seconds = time.perf_counter() - start
    measure.report(rate=PER_CLASS[base] * len(PHRASES) / seconds, seconds=seconds)


def plain(base: str, folder: Path) -> None:
    """One prompt a call, encoded each time; pictures saved as PNG."""
    pipeline = bases.load(base, folder)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    half = pick_precision("auto", torch.cuda.is_available()) == "bf16-mixed"
    pipeline.to(measure.device(), torch.bfloat16 if half else torch.float32)
    pool = Manifest.read(folder / "pool")
    size, out = bases.SIZES[base], folder / "plain"
    out.mkdir(exist_ok=True)
    start = time.perf_counter()
    for row in pool.table.to_dicts():
        generator = torch.Generator().manual_seed(row["seed"])
        settings = {
            "num_inference_steps": STEPS[base],
            "guidance_scale": GUIDANCE,
            "height": size,
            "width": size,
        }
        pipeline(row["prompt"], generator=generator, **settings).images[0].save(
            out / f"{row['image_id']}.png"
        )
    seconds = time.perf_counter() - start
    apart = [
        np.abs(
            np.asarray(open_image(path), np.int16) - np.asarray(Image.open(out / f"{name}.png"), np.int16)
        ).mean()
        for name, path in zip(pool.table["image_id"], pool.paths(), strict=True)
    ]
    measure.report(rate=len(pool) / seconds, seconds=seconds, apart=float(np.mean(apart)))


if __name__ == "__main__":
    way, base, folder = sys.argv[1:]
    {"ours": ours, "plain": plain}[way](base, Path(folder))
