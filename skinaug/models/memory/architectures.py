"""The architectures of published bases, a line each: the values of their configuration files that are not the classes' defaults.

Sources: the `config.json` of each component in the repositories that `conf/base` names, and for FLUX.1 in black-forest-labs/FLUX.1-dev.
What `count` counts of them is compared with the parameters that are known of the published weights (`tests/models/test_memory.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Part = tuple[str, Mapping[str, Any]]  # class of diffusers or transformers, and its configuration


@dataclass(frozen=True)
class Architecture:
    """A base.

    Attributes:
        pipeline: diffusers' class.
        image_size: pixels a side that it was trained on.
        denoiser, vae: those parts. encoders: its text encoders, by name.
        states: shapes of one text's states as the family's denoiser reads them.
        left_out: encoders that `conf/base` leaves out unless it is told otherwise.
    """

    pipeline: str
    image_size: int
    denoiser: Part
    vae: Part
    encoders: Mapping[str, Part]
    states: Mapping[str, tuple[int, ...]]
    left_out: tuple[str, ...] = ()


def _vae(latent_channels: int, **others: Any) -> Part:
    four = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    }
    return "AutoencoderKL", {**four, "latent_channels": latent_channels, **others}


VAE_4 = _vae(4)
VAE_16 = _vae(16, use_quant_conv=False, use_post_quant_conv=False)

_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CLIP_L: Part = ("CLIPTextModel", _CLIP_L)
CLIP_L_PROJECTED: Part = ("CLIPTextModelWithProjection", _CLIP_L)
CLIP_H: Part = (
    "CLIPTextModel",
    {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},
)
CLIP_G: Part = (
    "CLIPTextModelWithProjection",
    {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
    },
)
T5_XXL: Part = (
    "T5EncoderModel",
    {
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "vocab_size": 32128,
        "feed_forward_proj": "gated-gelu",
    },
)

_SDXL_UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_SD3_TRANSFORMER = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
_SD3_ENCODERS = {"text_encoder": CLIP_L_PROJECTED, "text_encoder_2": CLIP_G, "text_encoder_3": T5_XXL}
_SD3_STATES = {"embeds": (333, 4096), "pooled": (2048,)}

ARCHITECTURES: dict[str, Architecture] = {
    "sd15": Architecture(
        "StableDiffusionPipeline", 512, ("UNet2DConditionModel", {"sample_size": 64, "cross_attention_dim": 768}),
        VAE_4, {"text_encoder": CLIP_L}, {"embeds": (77, 768)},
    ),
    "sd21": Architecture(
        "StableDiffusionPipeline", 768,
        (
            "UNet2DConditionModel",
            {"sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
        ),
        VAE_4, {"text_encoder": CLIP_H}, {"embeds": (77, 1024)},
    ),
    "sdxl": Architecture(
        "StableDiffusionXLPipeline", 1024, ("UNet2DConditionModel", _SDXL_UNET),
        VAE_4, {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G}, {"embeds": (77, 2048), "pooled": (1280,)},
    ),
    "sd3": Architecture(
        "StableDiffusion3Pipeline", 1024, ("SD3Transformer2DModel", _SD3_TRANSFORMER),
        VAE_16, _SD3_ENCODERS, _SD3_STATES, left_out=("text_encoder_3",),
    ),
    "sd35": Architecture(
        "StableDiffusion3Pipeline", 1024,
        (
            "SD3Transformer2DModel",
            {**_SD3_TRANSFORMER, "pos_embed_max_size": 384, "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))},
        ),
        VAE_16, _SD3_ENCODERS, _SD3_STATES, left_out=("text_encoder_3",),
    ),
    "flux1_dev": Architecture(
        "FluxPipeline", 1024,
        (
            "FluxTransformer2DModel",
            {
                "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24,
                "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
            },
        ),
        VAE_16, {"text_encoder": CLIP_L, "text_encoder_2": T5_XXL}, {"embeds": (512, 4096), "pooled": (768,)},
    ),
}  # fmt: skip
