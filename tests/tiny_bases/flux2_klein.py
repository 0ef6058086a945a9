"""FLUX.2 klein: distilled, and the base that is guided by two predictions."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from tiny_bases.tiny import Tiny
from tiny_bases.tokenizers import qwen_tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

WIDTH = 8  # of the text encoder's states, of which three layers are read


def klein(distilled: bool) -> Flux2KleinPipeline:
    tokenizer = qwen_tokenizer()
    qwen = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=8,
        num_hidden_layers=27,  # the last that the pipeline reads
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    vae.bn.running_mean.copy_(torch.linspace(-0.5, 0.5, 16))
    vae.bn.running_var.copy_(torch.linspace(0.5, 2.0, 16))
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(qwen),
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=3 * WIDTH,
            timestep_guidance_channels=8,
            axes_dims_rope=(2, 2, 2, 2),
            guidance_embeds=False,
        ),
        is_distilled=distilled,
    )


DISTILLED = Tiny(
    lambda: klein(distilled=True), 16, taught=False, latents=Flux2KleinPipeline._unpatchify_latents
)
BASE = Tiny(
    lambda: klein(distilled=False),
    16,
    2.5,
    {"guidance_scale": 2.5},
    latents=Flux2KleinPipeline._unpatchify_latents,
)
