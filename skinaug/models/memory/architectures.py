"""The architectures of published bases, a line each: the values of their configuration files that are not the classes' defaults.

Sources: the `config.json` of each component in the repositories that `conf/base` names; docs/memory.md tells where they were read.
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
        states: shapes of one text's states as the family's denoiser reads them, of the longest text that it reads. `mask`, where the
            family has one, says where there are words: everywhere.
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

QWEN3_4B: Part = (
    "Qwen3ForCausalLM",
    {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
)
QWEN25_VL_7B: Part = (
    "Qwen2_5_VLForConditionalGeneration",
    {
        "text_config": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
        },
        "tie_word_embeddings": False,
    },
)
GEMMA2_2B: Part = (
    "Gemma2Model",
    {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 256000,
    },
)
VAE_DC: Part = (
    "AutoencoderDC",
    {
        "encoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
        "decoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
        "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
        "decoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
        "downsample_block_type": "Conv",
        "upsample_block_type": "interpolate",
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
_FLUX1_TRANSFORMER = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
}
_FLUX1_ENCODERS = {"text_encoder": CLIP_L, "text_encoder_2": T5_XXL}
_PIXART_TRANSFORMER = {
    "sample_size": 128,
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "cross_attention_dim": 1152,
    "in_channels": 4,
    "out_channels": 8,
    "patch_size": 2,
    "caption_channels": 4096,
}
FLUX2_KLEIN = Architecture(
    "Flux2KleinPipeline",
    1024,
    (
        "Flux2Transformer2DModel",
        {
            "num_layers": 5,
            "num_single_layers": 20,
            "num_attention_heads": 24,
            "joint_attention_dim": 7680,
            "guidance_embeds": False,
        },
    ),
    ("AutoencoderKLFlux2", {}),
    {"text_encoder": QWEN3_4B},
    {"embeds": (512, 7680)},
)
Z_IMAGE = Architecture(
    "ZImagePipeline",
    1024,
    ("ZImageTransformer2DModel", {"axes_lens": (1536, 512, 512)}),
    VAE_16,
    {"text_encoder": QWEN3_4B},
    {"embeds": (512, 2560), "mask": (512,)},
)

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
        "FluxPipeline", 1024, ("FluxTransformer2DModel", {**_FLUX1_TRANSFORMER, "guidance_embeds": True}),
        VAE_16, _FLUX1_ENCODERS, {"embeds": (512, 4096), "pooled": (768,)},
    ),
    "flux1_schnell": Architecture(
        "FluxPipeline", 1024, ("FluxTransformer2DModel", {**_FLUX1_TRANSFORMER, "guidance_embeds": False}),
        VAE_16, _FLUX1_ENCODERS, {"embeds": (256, 4096), "pooled": (768,)},
    ),
    "flux2_klein": FLUX2_KLEIN,
    "flux2_klein_base": FLUX2_KLEIN,
    "zimage": Z_IMAGE,
    "zimage_turbo": Z_IMAGE,
    "qwenimage": Architecture(
        "QwenImagePipeline", 1024, ("QwenImageTransformer2DModel", {}),
        ("AutoencoderKLQwenImage", {}), {"text_encoder": QWEN25_VL_7B}, {"embeds": (512, 3584), "mask": (512,)},
    ),
    "sana": Architecture(
        "SanaPipeline", 1024, ("SanaTransformer2DModel", {"qk_norm": "rms_norm_across_heads"}),
        VAE_DC, {"text_encoder": GEMMA2_2B}, {"embeds": (300, 2304), "mask": (300,)},
    ),
    "sana_512": Architecture(
        "SanaPipeline", 512,
        (
            "SanaTransformer2DModel",
            {
                "sample_size": 16, "num_layers": 28, "num_attention_heads": 36, "num_cross_attention_heads": 16,
                "cross_attention_head_dim": 72, "cross_attention_dim": 1152,
            },
        ),
        VAE_DC, {"text_encoder": GEMMA2_2B}, {"embeds": (300, 2304), "mask": (300,)},
    ),
    "pixart_alpha": Architecture(
        "PixArtAlphaPipeline", 1024, ("PixArtTransformer2DModel", {**_PIXART_TRANSFORMER, "use_additional_conditions": True}),
        VAE_4, {"text_encoder": T5_XXL}, {"embeds": (120, 4096), "mask": (120,)},
    ),
    "pixart_sigma": Architecture(
        "PixArtSigmaPipeline", 1024, ("PixArtTransformer2DModel", {**_PIXART_TRANSFORMER, "use_additional_conditions": False}),
        VAE_4, {"text_encoder": T5_XXL}, {"embeds": (300, 4096), "mask": (300,)},
    ),
}  # fmt: skip
