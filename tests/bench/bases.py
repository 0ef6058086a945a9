"""The bases of the benchmarks: the one that comes with skinaug, or Stable Diffusion 1.5's architecture with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from skinaug.models.base import load_pipeline

SIZES = {"tiny": 64, "sd15": 512}  # pixels a side


def load(name: str, folder: Path) -> StableDiffusionPipeline:
    """tiny, or sd15, which is made once in `folder`."""
    if name == "tiny":
        return load_pipeline("package://tiny")
    if not (folder / "sd15" / "model_index.json").exists():
        random_sd15().save_pretrained(folder / "sd15")
    return load_pipeline(str(folder / "sd15"))


def random_sd15() -> StableDiffusionPipeline:
    """Every layer of Stable Diffusion 1.5; weights that no one trained cost the same time. The tokenizer is the tiny base's."""
    tokenizer = load_pipeline("package://tiny").tokenizer
    tokenizer.model_max_length = 77
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=512,
    )  # fmt: skip
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    schedule = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    return StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=schedule, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
