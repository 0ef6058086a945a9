"""The stage: prompts and weights to a pool of synthetic images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from diffusers import DiffusionPipeline
from lightning import Trainer
from lightning.pytorch.loggers import Logger

from skinaug.generate.families import check_pipeline, check_prompts
from skinaug.generate.plan import check_real, check_templates, plan, with_paths
from skinaug.generate.pool import finish, missing
from skinaug.generate.predict import Renderer
from skinaug.generate.settings import Settings, check_settings
from skinaug.generate.writer import PictureWriter
from skinaug.manifest import Manifest
from skinaug.models.families.table import denoiser
from skinaug.models.phrases import read_phrases
from skinaug.models.quantize import quantize_pipeline
from skinaug.models.trainer import HALF
from skinaug.models.weights import load, model_folders
from skinaug.prompts import PromptSet

Base = Callable[[], DiffusionPipeline]


def generate(
    per_class: int,
    guidance_scale: float,
    num_inference_steps: int,
    scheduler: str,
    image_size: int,
    batch_size: int | str,
    seed: int,
    mode: str = "text",
    strength: float = 0.5,
    guidance_interval: Sequence[float] = (0.0, 1.0),
    format: str = "png",
    max_redraws: int = 3,
    compile: bool = False,
    quantize: int | None = None,
    offload: str | None = None,
    *,
    classes: Sequence[str],
    weights: Path,
    base: Base,
    prompts: PromptSet,
    trainer: Callable[..., Trainer],
    logger: Logger | bool,
    out: Path,
    real: Manifest | None = None,
) -> None:
    """Draw `per_class` images of each class into out/images/ and write out/manifest.parquet (split train, synthetic).

    Everything is planned first and each image has a seed of its own, so batch size, order, number of devices and a kill
    do not change the pool: images that lie whole in out/images/ are not drawn again.

    Args:
        guidance_scale: weight of classifier-free guidance (Ho and Salimans 2022), or what a base is told of it; 1 is none.
        scheduler: dpmsolver++, unipc, ddim or euler; over a flow those of its family (`Family.schedulers`).
        image_size: width and height in pixels.
        batch_size: images drawn together, or "auto": what half of the free memory holds (`batches.images_at_once`).
        mode: text, from noise; image, from real training images of the same class with noise added (SDEdit; Meng et al.
            2022), each as often as the others.
        strength: of that noise, (0, 1]; 1 keeps next to nothing of the real image. Not used in text mode.
        guidance_interval: shares of the training noise levels, from 0 (clean) to 1 (noise), inside which guidance is
            applied; outside, only the branch with the prompt is computed (Kynkaanniemi et al. 2024).
        format: png, webp (lossless) or jpeg (quality 95); the EXIF description tells prompt, seed, redraws and flaw as JSON.
        max_redraws: how often a picture that is broken, black, blank or colour-cast is drawn again, with the next seed.
            Columns `redraws` and `flaw` tell how often it was, and what is wrong with it still (guards.FLAWS, or null).
        quantize: bits of the denoiser's and of large text encoders' weights, 8 or 4 (`models.quantize`), with what was taught merged in
            before; None leaves them as they are. Decides the pictures.
        offload: of `settings.OFFLOADS`: where weights wait until they are needed; None keeps them on the device.
        compile: run the denoiser through torch.compile: pays off after some hundred images on a GPU.
        weights: a fine-tuning artifact (labels.json, textual_inversion/, lora/, pipeline/, or models/ with one a class).
        real: the training images, for image mode; their ids are the column `parents`.

    Raises InputError for bad numbers and names, prompts that do not fit the data or the text encoders, weights that do not
    fit the base, settings that the base cannot serve, and image mode without training images.
    """
    settings = check_settings(
        per_class, guidance_scale, num_inference_steps, scheduler, image_size, batch_size, mode, strength,
        guidance_interval, format, max_redraws, quantize, offload,
    )  # fmt: skip
    check_real(settings, real, classes)
    check_templates(prompts, classes)
    dtype = HALF.get(str(trainer().precision), torch.float32)
    models = _Models(base, weights, classes, settings, quantize, dtype)
    starts = real if mode == "image" else None
    rows = with_paths(_plan(models, prompts, per_class, seed, starts), format)
    options = {"batch_size": batch_size, "max_redraws": max_redraws, "compile": compile, "offload": offload}
    _draw(models, rows, starts, trainer, logger, out, format, options)


class _Models:
    """The models of a fine-tuning artifact: which folder draws which classes. One is in memory at a time.

    phrases: what stands for each class in a prompt, in the classes' order.
    """

    def __init__(
        self,
        base: Base,
        weights: Path,
        classes: Sequence[str],
        settings: Settings,
        bits: int | None,
        dtype: torch.dtype,
    ) -> None:
        self.phrases = read_phrases(weights, classes)
        self.folders = model_folders(weights, classes)
        self.base, self.settings, self.bits, self.dtype = base, settings, bits, dtype
        self.held: dict[Path, tuple[DiffusionPipeline, str]] = {}

    def load(self, folder: Path) -> tuple[DiffusionPipeline, str]:
        """A folder's pipeline, which can draw what the settings ask for, and its digest."""
        if folder not in self.held:
            self.held.clear()
            pipeline, digest = load(self.base, folder)
            check_pipeline(pipeline, self.settings)
            if self.bits is not None:
                quantize_pipeline(pipeline, denoiser(pipeline), self.bits, self.dtype)
                digest = f"{digest}-{self.bits}bit"  # other weights, and so other pictures
            self.held[folder] = pipeline, digest
        return self.held[folder]


def _plan(
    models: _Models, prompts: PromptSet, per_class: int, seed: int, real: Manifest | None
) -> pl.DataFrame:
    """The whole plan, each class's rows with the digest of the model that draws it, and its prompts checked."""
    plans = []
    for folder, labels in models.folders:
        pipeline, digest = models.load(folder)
        phrases = {label: models.phrases[label] for label in labels}
        rows = plan(phrases, prompts, per_class, seed, models.settings, digest, real)
        check_prompts(pipeline, rows["prompt"].unique(maintain_order=True).to_list())
        plans.append(rows)
    return pl.concat(plans, how="diagonal_relaxed")


def _draw(
    models: _Models,
    rows: pl.DataFrame,
    starts: Manifest | None,
    trainer: Callable[..., Trainer],
    logger: Logger | bool,
    out: Path,
    format: str,
    options: Mapping[str, Any],
) -> None:
    """Draw the planned pictures that are not there yet, and write the pool's manifest.

    starts: the real images that image mode starts from. options: of `Renderer`.
    """
    wanted = missing(rows, out)
    engine = trainer(
        callbacks=[PictureWriter(out, format, wanted.height)],
        logger=False,
        enable_progress_bar=False,  # the writer's bar counts images, not batches
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=out,
    )
    parents = dict(zip(starts.table["image_id"], starts.paths(), strict=True)) if starts else {}
    started = time.monotonic()
    for folder, labels in models.folders:
        own = wanted.filter(pl.col("label").is_in(labels)).select(
            "image_id", "path", "prompt", "seed", "parents"
        )
        if own.height:
            renderer = Renderer(models.load(folder)[0], models.settings, own.to_dicts(), parents, **options)
            engine.predict(renderer, return_predictions=False)
    engine.strategy.barrier()  # every device's pictures are there
    if engine.is_global_zero:
        finish(rows, out, list(models.phrases))
        if wanted.height and not isinstance(logger, bool):
            rate = wanted.height / (time.monotonic() - started)
            logger.log_metrics({"generate/images_per_second": rate})
