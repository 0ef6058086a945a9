"""A tiny random pipeline on disk, a few photographs, and functions that run the stages on them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from coloured import coloured_images
from diffusers import StableDiffusionPipeline
from diffusion_components import made_whole, save_tiny_pipeline
from lightning import Callback

from skinaug.finetune.finetune import Finetune
from skinaug.manifest import Manifest
from skinaug.models.trainer import make_trainer
from skinaug.prompts import PromptSet

CAPTIONS = PromptSet("plain", ["a photo of {label}", "a close up of {label}"])


class StopAt(Callback):
    """Ends a training as a kill would, after `step` optimizer steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, *_) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


def cpu_trainer(callbacks=(), more=(), precision: str = "32-true", **options):
    return make_trainer(
        "cpu", 1, precision, callbacks=[*callbacks, *more], enable_progress_bar=False, **options
    )


@pytest.fixture(scope="session")
def tiny_random_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random pipeline for pictures of 16 px."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Three classes, the names of colours, with four pictures each."""
    return coloured_images(tmp_path_factory.mktemp("photographs"), {"train": 4})


@pytest.fixture
def teach(tiny_random_pipeline: Path, photographs: Manifest):
    """A function that runs the stage into a folder and returns the pipeline that it taught."""

    def run(
        out: Path,
        method,
        stop_at: int | None = None,
        watch: Callback | None = None,
        precision: str = "32-true",
        fresh: bool = False,
        **changes,
    ) -> StableDiffusionPipeline:
        def base() -> StableDiffusionPipeline:
            return StableDiffusionPipeline.from_pretrained(tiny_random_pipeline)

        pipeline = base()
        pipeline.set_progress_bar_config(disable=True)
        more = [StopAt(stop_at)] if stop_at is not None else []
        more += [watch] if watch is not None else []
        values = {
            "method": method,
            "captions": CAPTIONS,
            "image_size": 16,
            "steps": 5,
            "batch_size": 6,
            "optimizer": partial(torch.optim.AdamW, lr=0.05),
            "warmup_steps": 1,
            "caption_dropout": 0.2,
            "flip": True,
            "accumulate_grad_batches": 1,
            "sample_every_num_steps": 100,
            "sample_prompts": ["a photo of skin"],  # drawing a grid takes longer than to teach
            "checkpoint_every_minutes": 0,
            "seed": 0,
        }
        runtime = {
            "manifest": photographs,
            "prior_images": None,
            "base": base if fresh else lambda: pipeline,
            "base_name": "tiny",
            "licence": "none",
            "trainer": partial(cpu_trainer, more=more, precision=precision),
            "cache": out.parent / "encoded",
            "logger": False,
            "out": out,
        }
        out.mkdir(exist_ok=True)
        settings = {name: changes.get(name, value) for name, value in values.items()}
        extra = {name: value for name, value in changes.items() if name not in values | runtime}
        Finetune(**settings, **extra)(**{name: changes.get(name, value) for name, value in runtime.items()})
        return made_whole(pipeline, tiny_random_pipeline)

    return run
