"""PixArt: sigma, and alpha as at 1024 px, where it is told sizes."""

from __future__ import annotations

from typing import Any

from diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)
from diffusion_components import small_vae
from tiny_bases.tiny import Tiny
from tiny_bases.tokenizers import t5_tokenizer
from torch import nn
from transformers import T5Config, T5EncoderModel

SIZE, TEXT_WIDTH = 16, 16


def pixart(pipeline: type[DiffusionPipeline], **network: Any) -> DiffusionPipeline:
    tokenizer = t5_tokenizer()
    t5 = T5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_WIDTH,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        use_cache=False,
    )
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=24,
        caption_channels=TEXT_WIDTH,
        **network,
    )
    for layer in transformer.adaln_single.modules():  # so that what it is told of time and sizes shows
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.5)
    return pipeline(
        tokenizer=tokenizer,
        text_encoder=T5EncoderModel(t5),
        vae=small_vae(SIZE, scaling_factor=0.5),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )


PLAIN = {"guidance_scale": 2.5}
READING = {"use_resolution_binning": False, "clean_caption": False}
SIGMA = Tiny(
    lambda: pixart(PixArtSigmaPipeline, sample_size=SIZE // 2), SIZE, 2.5, PLAIN, READING, "dpmsolver++"
)
ALPHA = Tiny(lambda: pixart(PixArtAlphaPipeline, sample_size=128), SIZE, 2.5, PLAIN, READING, "dpmsolver++")
