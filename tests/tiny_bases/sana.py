"""SANA: Gemma's words, an autoencoder without deviations, and a sampler of another kind along a flow."""

from __future__ import annotations

from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel
from tiny_bases.tiny import Tiny
from tiny_bases.tokenizers import gemma_tokenizer
from transformers import Gemma2Config, Gemma2Model

WIDTH = 16


def sana() -> SanaPipeline:
    tokenizer = gemma_tokenizer()
    gemma = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        use_cache=False,
    )
    sides = ("encoder", "decoder")
    blocks = {f"{side}_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock") for side in sides}
    widths = {f"{side}_block_out_channels": (8, 16, 16) for side in sides}
    layers = {f"{side}_layers_per_block": (1, 1, 1) for side in sides}
    scales = {f"{side}_qkv_multiscales": ((), (), (5,)) for side in sides}
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=Gemma2Model(gemma),
        vae=AutoencoderDC(
            latent_channels=4,
            attention_head_dim=8,
            upsample_block_type="interpolate",
            downsample_block_type="conv",
            scaling_factor=0.41407,
            **blocks,
            **widths,
            **layers,
            **scales,
        ),
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=1,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=WIDTH,
            sample_size=8,
        ),
        scheduler=DPMSolverMultistepScheduler(
            use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
        ),
    )


SANA = Tiny(
    sana, 32, 2.5, {"guidance_scale": 2.5}, {"use_resolution_binning": False}, scheduler="dpmsolver++"
)
