"""Pictures: our generate stage, and diffusers' pipeline, called once a prompt or once for many.

`plain` draws what the manifest of `ours` lists, so the pictures agree.
"""

from __future__ import annotations

import json
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

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
MANY = {"tiny": 32, "sd15": 8}  # prompts that a plain call takes at once


def ours(base: str, folder: str, per_class: int | None = None, steps: int | None = None) -> dict[str, Any]:
    """Our generate stage, which writes folder/pool. per_class, steps: images and denoising steps; None: the base's."""
    place, per_class, steps = Path(folder), per_class or PER_CLASS[base], steps or STEPS[base]
    (place / "labels.json").write_text(json.dumps(PHRASES))
    prompts = PromptSet("bench", ["a photo of {label} on the arm, skin type III", "{label} on the hand"])
    pipeline = bases.load(base, place)
    stage = partial(
        generate, per_class, GUIDANCE, steps, "dpmsolver++", bases.SIZES[base], "auto", 0,
        classes=tuple(PHRASES), weights=place, base=lambda: pipeline, prompts=prompts, trainer=partial(make_trainer, devices=1),
        logger=False,
    )  # fmt: skip
    out = place / "pool"
    shutil.rmtree(out, ignore_errors=True)  # of an earlier run, which would be gone on with
    out.mkdir()
    start = time.perf_counter()
    stage(out=out)
    seconds = time.perf_counter() - start
    return {"rate": per_class * len(PHRASES) / seconds, "seconds": seconds, "steps": steps}


def plain(base: str, folder: str, at_once: int = 1) -> dict[str, Any]:
    """Calls of `at_once` prompts, encoded each time; pictures saved as PNG in folder/plain.

    Returns:
        rate, seconds, and `apart`: how many of 255 levels the pictures are from ours on average.
    """
    place = Path(folder)
    pipeline = bases.load(base, place)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    half = pick_precision("auto", torch.cuda.is_available()) == "bf16-mixed"
    pipeline.to(measure.device(), torch.bfloat16 if half else torch.float32)
    pool = Manifest.read(place / "pool")
    size, out = bases.SIZES[base], place / "plain"
    out.mkdir(exist_ok=True)
    start = time.perf_counter()
    for rows in pool.table.iter_slices(at_once):
        drawn = pipeline(
            rows["prompt"].to_list(),
            generator=[torch.Generator().manual_seed(seed) for seed in rows["seed"]],
            num_inference_steps=rows["num_inference_steps"][0],
            guidance_scale=GUIDANCE,
            height=size,
            width=size,
        )
        for name, image in zip(rows["image_id"], drawn.images, strict=True):
            image.save(out / f"{name}.png")
    seconds = time.perf_counter() - start
    apart = [
        np.abs(
            np.asarray(open_image(path), np.int16) - np.asarray(Image.open(out / f"{name}.png"), np.int16)
        ).mean()
        for name, path in zip(pool.table["image_id"], pool.paths(), strict=True)
    ]
    return {"rate": len(pool) / seconds, "seconds": seconds, "apart": float(np.mean(apart))}
