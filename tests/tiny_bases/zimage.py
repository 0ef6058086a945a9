"""Z-Image: a stream of places and words, which a Qwen3 reads as a message."""

from __future__ import annotations

from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from diffusion_components import small_vae
from tiny_bases.tiny import Tiny
from tiny_bases.tokenizers import qwen_tokenizer
from transformers import Qwen3Config, Qwen3Model

WIDTH = 16


def zimage() -> ZImagePipeline:
    tokenizer = qwen_tokenizer()
    text_config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        bos_token_id=None,
        eos_token_id=None,
    )
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=small_vae(
            16, scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=Qwen3Model(text_config),
        tokenizer=tokenizer,
        transformer=ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=WIDTH,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 32, 32],
        ),
    )


# The pipeline's number is what is added to the prediction with the text: one less.
ZIMAGE = Tiny(zimage, 16, 2.5, {"guidance_scale": 1.5})
