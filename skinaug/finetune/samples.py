"""Grids of images drawn while a model learns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from PIL import Image

from skinaug.models.aside import without_encoders
from skinaug.models.families.family import TWO_PREDICTIONS, UNGUIDED, States, guidance_of
from skinaug.models.families.table import family_of
from skinaug.models.precision import exact_autoencoder
from skinaug.prompts import PromptSet


def examples(captions: PromptSet, phrases: Mapping[str, str], seed: int) -> list[str]:
    """One prompt a class, for the sample grids."""
    return [captions.sample(label, 1, seed, phrase)[0]["prompt"] for label, phrase in phrases.items()]


@torch.inference_mode()
def draw_images(
    pipeline: Any,
    prompts: Sequence[str],
    read: Callable[[Sequence[str]], States],
    seed: int,
    image_size: int,
    guidance_scale: float,
    num_inference_steps: int,
) -> np.ndarray:
    """One image a prompt, uint8 [N, S, S, 3]; image i has the noise of (seed, i), whatever the batch.

    read: text states. guidance_scale: for denoisers that can be guided.
    """
    generators = [torch.Generator().manual_seed((seed << 32) + i) for i in range(len(prompts))]
    family = family_of(pipeline)
    guidance = guidance_of(family, pipeline)
    scale = 1.0 if guidance == UNGUIDED else guidance_scale
    untold = read([""] * len(prompts)) if guidance == TWO_PREDICTIONS else None
    images = pipeline(
        **family.text_arguments(read(prompts), untold),
        **family.guidance_arguments(scale),
        **family.call,
        height=image_size,
        width=image_size,
        num_inference_steps=num_inference_steps,
        generator=generators,
        output_type="np",
    ).images
    return (images * 255).round().astype(np.uint8)


@contextmanager
def at_rest(pipeline: Any, device: torch.device) -> Iterator[None]:
    """A pipeline that trains, for a moment as one that draws: on the device, without dropout."""
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    before = [(network, network.training, network.device) for network in networks]
    for network in networks:
        network.eval().to(device)
    pipeline.set_progress_bar_config(disable=True)
    yield
    for network, training, where in before:
        network.train(training).to(where)


def grid(images: np.ndarray, columns: int) -> Image.Image:
    """uint8 [N, S, S, 3] row by row, `columns` images a row; N must be a multiple of it."""
    rows = images.reshape(-1, columns, *images.shape[1:])
    return Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in rows], 0))


class SampleGrids(Callback):
    """Draws the same prompts every so many optimizer steps and at the end: folder/step_000100.png, and to the logger.

    Four images a prompt, one prompt a row. A logger that takes images (Weights & Biases) also gets the grid.
    """

    images_a_prompt = 4

    def __init__(
        self,
        pipeline: Any,
        prompts: Sequence[str],
        folder: Path,
        image_size: int,
        every_num_steps: int,
        seed: int,
    ) -> None:
        self.pipeline, self.folder, self.image_size = pipeline, folder, image_size
        self.prompts = [prompt for prompt in prompts for _ in range(self.images_a_prompt)]
        self.every_num_steps, self.seed = every_num_steps, seed

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if module.device_mesh is not None:
            return  # each device holds a piece of the weights: none can draw alone
        if step % self.every_num_steps == 0 or step == trainer.max_steps:
            self.draw(trainer, module)

    def draw(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the grid of the current step once, on the main process."""
        path = self.folder / f"step_{trainer.global_step:06d}.png"
        if not trainer.is_global_zero or path.exists():
            return
        with (
            trainer.precision_plugin.forward_context(),
            without_encoders(self.pipeline) if module.frozen_text is not None else nullcontext(),
            at_rest(self.pipeline, module.device),
            exact_autoencoder(self.pipeline.vae, module.device.type),
            torch.compiler.set_stance("force_eager"),  # compiling for these shapes takes longer than drawing
        ):
            images = draw_images(
                self.pipeline, self.prompts, module.states, self.seed, self.image_size, 2.5, 20
            )
        picture = grid(images, self.images_a_prompt)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path.with_suffix(".part"), format="png")
        os.replace(path.with_suffix(".part"), path)
        if hasattr(trainer.logger, "log_image"):
            trainer.logger.log_image(key="samples", images=[picture], step=trainer.global_step)
