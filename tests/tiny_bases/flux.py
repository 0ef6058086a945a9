"""FLUX.1: dev is told its guidance, schnell is not guided."""

from __future__ import annotations

from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusion_components import WIDTH_L, clip_text_encoder, clip_tokenizer, small_vae
from tiny_bases.tiny import Tiny
from tiny_bases.tokenizers import t5_tokenizer
from transformers import T5Config, T5EncoderModel


def flux(guided: bool) -> FluxPipeline:
    tokenizer, tokenizer_2 = clip_tokenizer(), t5_tokenizer()
    t5 = T5Config(
        vocab_size=len(tokenizer_2), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, use_cache=False
    )
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=WIDTH_L,
            guidance_embeds=guided,
            axes_dims_rope=(2, 2, 4),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guided, shift=3.0 if guided else 1.0),
        vae=small_vae(
            16, scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=clip_text_encoder(len(tokenizer)),
        text_encoder_2=T5EncoderModel(t5),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
    )


DEV = Tiny(lambda: flux(guided=True), 16, 3.5, {"guidance_scale": 3.5})
SCHNELL = Tiny(lambda: flux(guided=False), 16, taught=False, reading={"max_sequence_length": 256})
