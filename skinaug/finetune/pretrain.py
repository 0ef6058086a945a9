"""Train a small Stable Diffusion pipeline from nothing: tokenizer, autoencoder, then UNet and text encoder together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from lightning import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import CLIPTokenizer

from skinaug.errors import InputError
from skinaug.finetune import components, resume
from skinaug.finetune.autoencoder import AutoencoderTrainer, pixel_batch, unit_scaling
from skinaug.finetune.colour_start import start_from_colours
from skinaug.finetune.latents import captioned_batch, encode_moments, to_signal
from skinaug.finetune.module import DiffusionFinetuner
from skinaug.finetune.samples import SampleGrids
from skinaug.finetune.text import Caption, caption_rows, tokenize
from skinaug.finetune.tokenizer import train_tokenizer
from skinaug.images import load_pixels
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet

OptimizerOf = Callable[[Sequence[nn.Parameter]], Optimizer]
UNET_FACTOR = 4  # latents are divided by this at the UNet's bottom


@dataclass(frozen=True)
class Sizes:
    """Of the networks. vocab_size and max_tokens: of the tokenizer; channels: at each level, the finest first."""

    vocab_size: int
    max_tokens: int
    text_width: int
    text_layers: int
    vae_channels: Sequence[int]
    unet_channels: Sequence[int]

    @property
    def vae_factor(self) -> int:
        """Pixels a latent, along one side."""
        return 2 ** (len(self.vae_channels) - 1)


@dataclass(frozen=True)
class AutoencoderTraining:
    """steps, warmup_steps: optimizer steps; batch_size: images; deviation: of the posterior; weights beside the colours' 1."""

    steps: int
    batch_size: int
    warmup_steps: int
    deviation: float
    edge_weight: float
    chroma_weight: float
    kl_weight: float
    optimizer: OptimizerOf


def pretrain(
    captions: PromptSet,
    sizes: Sizes,
    autoencoder: AutoencoderTraining,
    image_size: int,
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
    *,
    manifest: Manifest,
    base: Any,
    trainer: Callable[..., Trainer],
    logger: Any,
    out: Path,
) -> None:
    """Leave a complete pipeline in out/pipeline, float16 safetensors that plain diffusers loads; sample grids in out/samples.

    Each part is trained once: what is in `out` is not trained again, and an interrupted part goes on from its checkpoint.
    `base` is not used: nothing is started from. Other arguments are as in `finetune`; ema_decay in [0, 1) averages the
    weights of UNet and text encoder over steps.

    Raises:
        InputError: an image size that does not suit the networks.
    """
    if image_size % (UNET_FACTOR * sizes.vae_factor):
        raise InputError(
            f"finetune.image_size must be a multiple of {UNET_FACTOR * sizes.vae_factor}, got {image_size}."
        )
    saver = partial(resume.checkpoints, every_minutes=checkpoint_every_minutes)
    fitter = partial(trainer, logger=logger, default_root_dir=out)
    caption = caption_rows(manifest, captions, {})
    pixels = load_pixels(manifest, image_size)
    tokenizer = make_tokenizer(caption, len(manifest), sizes, out / "tokenizer", seed)
    if not (out / "vae").exists():
        folder = out / "vae_checkpoints"
        fit = fitter(max_steps=autoencoder.steps, callbacks=[saver(folder)], gradient_clip_val=1.0)
        train_autoencoder(autoencoder, sizes, pixels, image_size, fit, folder, seed)
    pipeline = new_pipeline(sizes, image_size, AutoencoderKL.from_pretrained(out / "vae"), tokenizer, seed)
    grids = SampleGrids(pipeline, sample_prompts, out / "samples", image_size, sample_every_num_steps, seed)
    callbacks = [EMAWeightAveraging(decay=ema_decay), grids, saver(out / "checkpoints")]
    fit = fitter(max_steps=steps, callbacks=callbacks)
    make_batch = partial(
        captioned_batch,
        moments=moments_of(pipeline.vae, pixels, fit, flip),
        labels=[0] * len(pixels),
        caption=caption,
        tokenize=partial(tokenize, pipeline),
        batch_size=batch_size,
        caption_dropout=caption_dropout,
        seed=seed,
    )
    module = DiffusionFinetuner.of(
        pipeline,
        [*pipeline.unet.parameters(), *pipeline.text_encoder.parameters()],
        make_batch=make_batch,
        optimizer=optimizer,
        num_steps=steps,
        warmup_steps=warmup_steps,
        min_snr_gamma=min_snr_gamma,
        seed=seed,
    )
    resume.fit(fit, module, out / "checkpoints")
    if fit.is_global_zero:
        save_pipeline(pipeline, out / "pipeline")
        for leftover in ("tokenizer", "vae", "vae_checkpoints", "checkpoints"):
            resume.remove(out / leftover)


def make_tokenizer(caption: Caption, count: int, sizes: Sizes, folder: Path, seed: int) -> CLIPTokenizer:
    """The tokenizer in `folder`, or a new one from one caption each of up to 20,000 images."""
    if not folder.exists():
        rng = np.random.default_rng([seed, 0])
        texts = [caption(row, rng) for row in range(min(count, 20_000))]
        tokenizer = train_tokenizer(texts, sizes.vocab_size, sizes.max_tokens)
        save_whole(tokenizer.save_pretrained, folder)
    return CLIPTokenizer.from_pretrained(folder)


def train_autoencoder(
    training: AutoencoderTraining,
    sizes: Sizes,
    pixels: np.ndarray,
    image_size: int,
    trainer: Trainer,
    checkpoints: Path,
    seed: int,
) -> None:
    """Leave the autoencoder beside its checkpoints, with the scaling factor that some of the training images give."""
    torch.manual_seed(seed)
    vae = components.new_autoencoder(sizes.vae_channels, image_size)
    start_from_colours(vae, to_signal(torch.from_numpy(pixels[:512])), training.deviation)
    module = AutoencoderTrainer(
        vae,
        partial(pixel_batch, pixels=pixels, batch_size=training.batch_size, seed=seed),
        training.optimizer,
        num_steps=training.steps,
        warmup_steps=training.warmup_steps,
        edge_weight=training.edge_weight,
        chroma_weight=training.chroma_weight,
        kl_weight=training.kl_weight,
        seed=seed,
    )
    resume.fit(trainer, module, checkpoints)
    if trainer.is_global_zero:
        vae.register_to_config(scaling_factor=unit_scaling(moments_of(vae, pixels[:1024], trainer, False)))
        save_whole(vae.to("cpu").save_pretrained, checkpoints.with_name("vae"))
    trainer.strategy.barrier()


def new_pipeline(
    sizes: Sizes, image_size: int, vae: AutoencoderKL, tokenizer: CLIPTokenizer, seed: int
) -> StableDiffusionPipeline:
    """An untrained UNet and text encoder around a trained autoencoder; the same for a seed."""
    torch.manual_seed(seed)
    text_encoder = components.new_text_encoder(tokenizer, sizes.text_width, sizes.text_layers)
    unet = components.new_unet(sizes.unet_channels, image_size // sizes.vae_factor, sizes.text_width)
    return components.assemble(vae, text_encoder, tokenizer, unet)


def moments_of(vae: AutoencoderKL, pixels: np.ndarray, trainer: Trainer, mirror: bool) -> Tensor:
    """As encode_moments, on the trainer's device and in its precision."""
    with trainer.precision_plugin.forward_context():
        return encode_moments(vae, pixels, trainer.strategy.root_device, 64, mirror)


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Save as float16 safetensors, whole or not at all."""
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.to("cpu").half()
    save_whole(pipeline.save_pretrained, folder)


def save_whole(save: Callable[[Path], Any], folder: Path) -> None:
    """Call save(folder) so that a kill leaves no half of it; configs forget where their parts were loaded from."""
    part = folder.with_name(folder.name + ".part")
    save(part)
    for config in part.rglob("*config.json"):
        values = json.loads(config.read_text())
        values.pop("_name_or_path", None)
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    os.replace(part, folder)
