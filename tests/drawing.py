"""The generate stage over a tiny random pipeline, for tests: as a function, and as a program that can be killed or run on
several devices: `python drawing.py <pipeline> <weights> <out> <changes as JSON> <Trainer's arguments as JSON>`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import lightning
from diffusion_components import plain_pipeline

from skinaug.generate.generate import generate
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet

PHRASES = {"acne": "acne", "nevus": "nevus"}
PROMPTS = PromptSet("sites", ["a photo of {label}[ on the {body_site}]"], {"body_site": {"arm": 1, "leg": 1}})


def draw_pool(pipeline: Path, artifact: Path, out: Path, **changes) -> Manifest:
    """Run the stage with a few values changed and return its manifest."""
    run_stage(pipeline, artifact, out, **changes)
    return Manifest.read(out)


def run_stage(pipeline: Path, artifact: Path, out: Path, **changes) -> None:
    """Run the stage with a few values changed."""
    values = {
        "per_class": 4,
        "guidance_scale": 2.5,
        "num_inference_steps": 4,
        "scheduler": "dpmsolver++",
        "image_size": 16,
        "batch_size": 4,
        "seed": 0,
        "max_redraws": 0,  # a random model's pictures have no colour of skin
        "classes": tuple(PHRASES),
        "weights": artifact,
        "base": partial(plain_pipeline, pipeline),
        "prompts": PROMPTS,
        "trainer": partial(lightning.Trainer, accelerator="cpu"),
        "logger": False,
        "out": out,
    }
    generate(**(values | changes))


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:4]]
    engine = partial(lightning.Trainer, accelerator="cpu", **json.loads(sys.argv[5]))
    run_stage(*folders, trainer=engine, **json.loads(sys.argv[4]))
