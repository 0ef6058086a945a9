#!/usr/bin/env bash
# diffusers 0.42.1: PixArtAlphaPipeline with num_inference_steps=1 takes the second thing that its scheduler returns. The scheduler that it
# comes with, DPMSolverMultistepScheduler, returns one thing: the call ends in an IndexError after the denoiser has run.
# Seen: "tuple index out of range" with 1 step, a picture with 2; PixArtSigmaPipeline over the same networks draws in 1 step.
# Usage: findings/diffusers_pixart_alpha_one_step.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" \
  diffusers==0.42.1 transformers==5.23.0 torch==2.15.0
cd "$folder"
"$folder/env/bin/python" -W ignore - 2>"$folder/log" <<'CODE' || { cat "$folder/log" >&2; exit 1; }
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)

torch.manual_seed(0)
widths = {"num_attention_heads": 2, "attention_head_dim": 12, "cross_attention_dim": 24, "caption_channels": 8}
transformer = PixArtTransformer2DModel(num_layers=1, sample_size=8, **widths).eval()
blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, **blocks).eval()
words = {"prompt_embeds": torch.randn(1, 4, 8), "prompt_attention_mask": torch.ones(1, 4)}


def draw(kind, steps):
    parts = {"tokenizer": None, "text_encoder": None, "vae": vae, "transformer": transformer}
    pipeline = kind(scheduler=DPMSolverMultistepScheduler(), **parts)
    size = {"height": 16, "width": 16, "use_resolution_binning": False}
    return pipeline(negative_prompt=None, guidance_scale=1.0, num_inference_steps=steps, output_type="np", **words, **size).images


assert draw(PixArtAlphaPipeline, 2).shape == draw(PixArtSigmaPipeline, 1).shape == (1, 16, 16, 3)
try:
    draw(PixArtAlphaPipeline, 1)
except IndexError as error:
    print(f"diffusers 0.42.1: PixArtAlphaPipeline draws in 2 steps, and in 1 step fails: {error}")
else:
    raise AssertionError("changed: PixArtAlphaPipeline draws in 1 step")
CODE
