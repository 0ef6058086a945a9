"""A tiny random pipeline on disk, and a pool drawn from it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import lightning
import pytest
from diffusers import StableDiffusionPipeline
from diffusion_components import save_tiny_pipeline

from skinaug.generate.generate import generate
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet

PHRASES = {"acne": "acne", "nevus": "nevus"}
PROMPTS = PromptSet("sites", ["a photo of {label}[ on the {body_site}]"], {"body_site": {"arm": 1, "leg": 1}})


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random pipeline for pictures of 16 px."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A fine-tuning artifact that adds nothing to its base."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "labels.json").write_text(json.dumps(PHRASES))
    return folder


@pytest.fixture
def draw(tiny: Path, weights: Path):
    """A function that runs the stage and returns its manifest."""

    def run(out: Path, **changes) -> Manifest:
        values = {
            "per_class": 4,
            "guidance_scale": 2.5,
            "num_inference_steps": 4,
            "scheduler": "dpmsolver++",
            "image_size": 16,
            "batch_size": 4,
            "seed": 0,
            "classes": tuple(PHRASES),
            "weights": weights,
            "base": partial(StableDiffusionPipeline.from_pretrained, tiny),
            "prompts": PROMPTS,
            "trainer": partial(lightning.Trainer, accelerator="cpu"),
            "logger": False,
            "out": out,
        }
        generate(**(values | changes))
        return Manifest.read(out)

    return run
