"""The finetune stage: real training photographs and their captions teach a base model the classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from diffusers import DiffusionPipeline
from lightning import Trainer
from torch import nn
from torch.optim import Optimizer

from skinaug.errors import InputError
from skinaug.finetune import resume
from skinaug.finetune.latents import captioned_batch, encode_moments
from skinaug.finetune.module import DiffusionFinetuner
from skinaug.finetune.samples import SampleGrids
from skinaug.finetune.text import caption_rows, tokenize
from skinaug.images import load_pixels
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet


class FinetuneMethod(Protocol):
    """What of a pipeline learns, and how it is saved."""

    def phrases(self, classes: Sequence[str]) -> dict[str, str]:
        """What stands for each class in captions and prompts; a class that is not named keeps the prompts' own words."""

    def prepare(
        self, pipeline: DiffusionPipeline, classes: Sequence[str], seed: int
    ) -> Sequence[nn.Parameter]:
        """Change the pipeline in place; returns the parameters that learn."""

    def save(self, pipeline: DiffusionPipeline, classes: Sequence[str], out: Path) -> None:
        """Write what was learned as files that diffusers reads, below `out`."""


def finetune(
    method: FinetuneMethod,
    captions: PromptSet,
    image_size: int,
    steps: int,
    batch_size: int,
    optimizer: Callable[[Sequence[nn.Parameter]], Optimizer],
    warmup_steps: int,
    min_snr_gamma: float | None,
    caption_dropout: float,
    flip: bool,
    accumulate_grad_batches: int,
    sample_every_num_steps: int,
    checkpoint_every_minutes: float,
    seed: int,
    *,
    manifest: Manifest,
    base: Callable[[], DiffusionPipeline],
    trainer: Callable[..., Trainer],
    logger: Any,
    out: Path,
) -> None:
    """Teach a base model the classes of a manifest; leaves the method's files, labels.json and samples/ in `out`.

    Each step draws the classes in turn. A run that was killed goes on from its last checkpoint and ends as if it had not
    been.

    Args:
        method: what learns.
        captions: the texts that the photographs are shown with, filled from their attributes.
        image_size: pixels a side; photographs are resized and cropped to squares.
        steps: optimizer steps; batch_size: images a device and batch; accumulate_grad_batches: batches a step.
        optimizer: makes the optimizer of the learning parameters. Its rate means the same on any number of devices.
        warmup_steps: of linearly rising learning rate; a half cosine to zero follows.
        min_snr_gamma: cap of the loss weights (Hang et al. 2023); None weighs all noise levels alike.
        caption_dropout: share of images with an empty caption, for classifier-free guidance.
        flip: also show mirror images.

    Raises:
        InputError: settings that do not fit the base, or a loss that is no number.
    """
    check_numbers(steps=steps, batch_size=batch_size, accumulate_grad_batches=accumulate_grad_batches)
    check_numbers(sample_every_num_steps=sample_every_num_steps)
    if not 0 <= caption_dropout < 1:
        raise InputError(
            f"finetune.caption_dropout={caption_dropout}: it is a share, at least 0 and below 1."
        )
    pipeline = base()
    check_image_size(image_size, pipeline)
    classes = manifest.classes
    parameters = method.prepare(pipeline, classes, seed)
    phrases = {label: captions.phrase(label) for label in classes} | method.phrases(classes)
    fitter = trainer(
        max_steps=steps,
        accumulate_grad_batches=accumulate_grad_batches,
        callbacks=[
            resume.checkpoints(out / "checkpoints", every_minutes=checkpoint_every_minutes),
            SampleGrids(
                pipeline,
                examples(captions, phrases, seed),
                out / "samples",
                image_size,
                sample_every_num_steps,
                seed,
            ),
        ],
        logger=logger,
        default_root_dir=out,
    )
    pixels = load_pixels(manifest, image_size)
    make_batch = partial(
        captioned_batch,
        moments=encode_moments(pipeline.vae, pixels, fitter.strategy.root_device, batch_size, mirror=flip),
        labels=manifest.labels(),
        caption=caption_rows(manifest, captions, phrases),
        tokenize=partial(tokenize, pipeline),
        batch_size=batch_size,
        caption_dropout=caption_dropout,
        seed=seed,
    )
    module = DiffusionFinetuner.of(
        pipeline,
        parameters,
        make_batch=make_batch,
        optimizer=optimizer,
        num_steps=steps,
        warmup_steps=warmup_steps,
        min_snr_gamma=min_snr_gamma,
        seed=seed,
    )
    resume.fit(fitter, module, out / "checkpoints")
    if fitter.is_global_zero:
        method.save(pipeline, classes, out)
        write_phrases(phrases, out)
        resume.remove(out / "checkpoints")


def check_numbers(**numbers: int) -> None:
    """Refuse counts below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"finetune.{name}={number}: it is at least 1.")


def check_image_size(image_size: int, pipeline: Any) -> None:
    """Refuse pictures that the autoencoder cannot halve as often as it does."""
    factor = pipeline.vae_scale_factor
    if image_size < factor or image_size % factor:
        raise InputError(
            f"finetune.image_size={image_size}: this base takes multiples of {factor} pixels. Set scale.image_size or "
            f"finetune.image_size to {max(1, round(image_size / factor)) * factor}."
        )


def keep_base(
    captions: PromptSet, *, manifest: Manifest, base: Any, trainer: Any, logger: Any, out: Path
) -> None:
    """No fine-tuning: leaves only labels.json, so the pool shows what the base alone makes of the classes' names."""
    write_phrases({label: captions.phrase(label) for label in manifest.classes}, out)


def examples(captions: PromptSet, phrases: dict[str, str], seed: int) -> list[str]:
    """One prompt a class, for the sample grids."""
    return [captions.sample(label, 1, seed, phrase)[0]["prompt"] for label, phrase in phrases.items()]


def write_phrases(phrases: dict[str, str], out: Path) -> None:
    """labels.json: what stands for each class in a prompt."""
    (out / "labels.json").write_text(json.dumps(phrases, indent=2) + "\n")
