"""Train a small Stable Diffusion pipeline from nothing: tokenizer, autoencoder, then UNet and text encoder together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import CLIPTokenizer

from skinaug.errors import InputError
from skinaug.finetune import components, resume
from skinaug.finetune.autoencoder import AutoencoderTrainer, pixel_batch, unit_scaling
from skinaug.finetune.latents import captioned_batch, encode_moments
from skinaug.finetune.module import DiffusionFinetuner
from skinaug.finetune.samples import SampleGrids
from skinaug.finetune.text import caption_rows, tokenize
from skinaug.finetune.tokenizer import train_tokenizer
from skinaug.images import load_pixels
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet

OptimizerOf = Callable[[Sequence[nn.Parameter]], Optimizer]


def pretrain(
    *,
    manifest: Manifest,
    base: Any,
    trainer: Callable[..., Trainer],
    logger: Any,
    out: Path,
    captions: PromptSet,
    image_size: int,
    vocab_size: int,
    max_tokens: int,
    vae_channels: Sequence[int],
    vae_steps: int,
    vae_batch_size: int,
    vae_optimizer: OptimizerOf,
    edge_weight: float,
    kl_weight: float,
    text_width: int,
    text_layers: int,
    unet_channels: Sequence[int],
    steps: int,
    batch_size: int,
    optimizer: OptimizerOf,
    warmup_steps: int,
    min_snr_gamma: float | None,
    caption_dropout: float,
    ema_decay: float,
    flip: bool,
    sample_prompts: Sequence[str],
    sample_every_num_steps: int,
    checkpoint_every_minutes: float,
    seed: int,
) -> None:
    """Leave a complete pipeline in out/pipeline, float16 safetensors that plain diffusers loads; sample grids in out/samples.

    Each part is trained once: what is in `out` is not trained again, and an interrupted part goes on from its checkpoint.
    `base` is not used: nothing is started from. Raises InputError where the image size does not suit the autoencoder.
    """
    factor = 2 ** (len(vae_channels) - 1)
    if image_size % (4 * factor):
        raise InputError(f"finetune.image_size must be a multiple of {4 * factor}, got {image_size}.")
    seed_everything(seed, verbose=False)
    rows = caption_rows(manifest, captions, {})
    tokenizer = make_tokenizer(rows, len(manifest), vocab_size, max_tokens, out / "tokenizer", seed)
    pixels = load_pixels(manifest, image_size)

    vae = components.new_autoencoder(vae_channels, image_size)
    autoencoder = AutoencoderTrainer(
        vae,
        partial(pixel_batch, pixels=pixels, batch_size=vae_batch_size, seed=seed),
        vae_optimizer,
        num_steps=vae_steps,
        warmup_steps=warmup_steps,
        edge_weight=edge_weight,
        kl_weight=kl_weight,
        seed=seed,
    )
    saver = partial(resume.checkpoints, every_minutes=checkpoint_every_minutes)
    if not (out / "vae").exists():
        fitter = trainer(max_steps=vae_steps, callbacks=[saver(out / "vae_checkpoints")], logger=logger, default_root_dir=out)
        resume.fit(fitter, autoencoder, out / "vae_checkpoints")
        save_autoencoder(vae, pixels, fitter, out / "vae")
    vae = AutoencoderKL.from_pretrained(out / "vae")

    text_encoder = components.new_text_encoder(tokenizer, text_width, text_layers)
    unet = components.new_unet(unet_channels, image_size // factor, text_width)
    pipeline = components.assemble(vae, text_encoder, tokenizer, unet)
    grids = SampleGrids(pipeline, sample_prompts, out / "samples", image_size, sample_every_num_steps, seed)
    average = EMAWeightAveraging(decay=ema_decay)
    callbacks = [average, grids, saver(out / "checkpoints")]
    fitter = trainer(max_steps=steps, callbacks=callbacks, logger=logger, default_root_dir=out)
    make_batch = partial(
        captioned_batch,
        moments=moments_of(vae, pixels, fitter, flip),
        labels=[0] * len(pixels),
        caption=rows,
        tokenize=partial(tokenize, pipeline),
        batch_size=batch_size,
        caption_dropout=caption_dropout,
        seed=seed,
    )
    module = new_module(pipeline, make_batch, optimizer, steps, warmup_steps, min_snr_gamma, seed)
    resume.fit(fitter, module, out / "checkpoints")
    if fitter.is_global_zero:
        save_pipeline(pipeline, out / "pipeline")
        for leftover in ("tokenizer", "vae", "vae_checkpoints", "checkpoints"):
            resume.remove(out / leftover)


def make_tokenizer(
    caption: Callable[[int, np.random.Generator], str], count: int, vocab_size: int, max_tokens: int, folder: Path, seed: int
) -> CLIPTokenizer:
    """The tokenizer in `folder`, or a new one from one caption each of up to 20,000 images."""
    if not folder.exists():
        rng = np.random.default_rng([seed, 0])
        texts = [caption(row, rng) for row in range(min(count, 20_000))]
        part = folder.with_name(folder.name + ".part")
        train_tokenizer(texts, vocab_size, max_tokens).save_pretrained(part)
        os.replace(part, folder)
    return CLIPTokenizer.from_pretrained(folder)


def save_autoencoder(vae: AutoencoderKL, pixels: np.ndarray, trainer: Trainer, folder: Path) -> None:
    """Save with the scaling factor that some of the training images give."""
    moments = moments_of(vae, pixels[:1024], trainer, False)
    vae.register_to_config(scaling_factor=unit_scaling(moments))
    part = folder.with_name(folder.name + ".part")
    vae.to("cpu").save_pretrained(part)
    os.replace(part, folder)


def moments_of(vae: AutoencoderKL, pixels: np.ndarray, trainer: Trainer, mirror: bool) -> Tensor:
    """As encode_moments, on the trainer's device and in its precision."""
    with trainer.precision_plugin.forward_context():
        return encode_moments(vae, pixels, trainer.strategy.root_device, 64, mirror)


def new_module(
    pipeline: StableDiffusionPipeline,
    make_batch: Callable[[int], dict[str, Any]],
    optimizer: OptimizerOf,
    steps: int,
    warmup_steps: int,
    min_snr_gamma: float | None,
    seed: int,
) -> DiffusionFinetuner:
    """All of UNet and text encoder learn."""
    return DiffusionFinetuner(
        pipeline.unet,
        pipeline.text_encoder,
        [*pipeline.unet.parameters(), *pipeline.text_encoder.parameters()],
        alphas_cumprod=alphas_cumprod(pipeline),
        prediction_type=pipeline.scheduler.config.prediction_type,
        scaling_factor=pipeline.vae.config.scaling_factor,
        make_batch=make_batch,
        optimizer=optimizer,
        num_steps=steps,
        warmup_steps=warmup_steps,
        min_snr_gamma=min_snr_gamma,
        seed=seed,
    )


def alphas_cumprod(pipeline: StableDiffusionPipeline) -> Tensor:
    """The noise schedule that the pipeline was trained with: float32 [T]."""
    return DDPMScheduler.from_config(pipeline.scheduler.config).alphas_cumprod


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Save as float16 safetensors, whole or not at all."""
    part = folder.with_name(folder.name + ".part")
    pipeline.to("cpu", torch.float16).save_pretrained(part, safe_serialization=True)
    for config in part.rglob("*config.json"):  # diffusers writes where a part was loaded from
        values = json.loads(config.read_text())
        values.pop("_name_or_path", None)
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    os.replace(part, folder)
