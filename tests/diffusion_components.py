"""Complete pipelines of tiny random components, one for each family, so that tests need no network and no seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

FAMILIES = ("sd1", "sd2", "sdxl", "sd3")
SIZE = 16  # pixels of a picture's side
WIDTH_L, WIDTH_G = 32, 48  # of the text states of text_encoder and text_encoder_2
POOLED_L, POOLED_G = 24, 40  # of their pooled states

CORPUS = (
    "a photo of acne eczema psoriasis tinea vitiligo nevus skin on the face neck chest back abdomen arm hand leg foot, "
    "skin type i ii iii iv v vi of a person with close up clinical dermatology photograph macroscopic lesion year old "
    "years woman man patient fitzpatrick daylight flash warm soft light cheek forehead forearm female male "
    "a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9 < > , . - _"
)


def tiny(family: str) -> DiffusionPipeline:
    """The pipeline of a family (sd1, sd2, sdxl, sd3) for 16 px pictures."""
    make = {
        "sd1": lambda: _stable_diffusion(SIZE, "epsilon"),
        "sd2": lambda: _stable_diffusion(SIZE, "v_prediction"),
        "sdxl": _sdxl,
        "sd3": _sd3,
    }
    return make[family]()


def save_tiny(folder: Path, family: str) -> Path:
    """Save the pipeline of a family and return the folder."""
    torch.manual_seed(0)
    tiny(family).save_pretrained(folder)
    return folder


def save_tiny_pipeline(folder: Path, size: int = SIZE, prediction_type: str = "v_prediction") -> Path:
    """Save a Stable Diffusion pipeline for `size` px pictures and return the folder."""
    torch.manual_seed(0)
    _stable_diffusion(size, prediction_type).save_pretrained(folder)
    return folder


def plain_pipeline(folder: Path) -> DiffusionPipeline:
    """A saved pipeline as diffusers alone loads it; it wants to be told of the parts that SD 3 was saved without."""
    index = json.loads((folder / "model_index.json").read_text())
    absent = {name: None for name, value in index.items() if value == [None, None]}
    pipeline = DiffusionPipeline.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, **absent
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def made_whole(pipeline: DiffusionPipeline, folder: Path) -> DiffusionPipeline:
    """The pipeline, with its folder's text encoders in the place of those that a training has let go of."""
    fresh = plain_pipeline(folder).components
    lacking = {name: fresh[name] for name, part in pipeline.components.items() if part is None}
    pipeline.register_modules(**lacking)
    return pipeline


def _stable_diffusion(size: int, prediction_type: str) -> DiffusionPipeline:
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=small_vae(size),
        text_encoder=clip_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        unet=_unet(size),
        scheduler=_noise_schedule(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> DiffusionPipeline:
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer(pad_token="!")
    return StableDiffusionXLPipeline(
        vae=small_vae(SIZE, scaling_factor=0.5),
        text_encoder=clip_text_encoder(len(tokenizer)),
        text_encoder_2=clip_text_encoder(len(tokenizer), WIDTH_G, POOLED_G),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=_unet(
            SIZE,
            cross_attention_dim=WIDTH_L + WIDTH_G,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + POOLED_G,  # six numbers of sizes and crops
        ),
        scheduler=_noise_schedule("epsilon"),
        add_watermarker=False,
    )


def _sd3() -> DiffusionPipeline:
    """Without the T5 encoder, as many run it; the text states are padded to joint_attention_dim."""
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer(pad_token="!")
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=SIZE // 2,
            patch_size=2,
            in_channels=8,
            out_channels=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=96,
            pooled_projection_dim=POOLED_L + POOLED_G,
            pos_embed_max_size=8,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=small_vae(
            SIZE,
            latent_channels=8,
            scaling_factor=1.5,
            shift_factor=0.06,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=clip_text_encoder(len(tokenizer), WIDTH_L, POOLED_L),
        text_encoder_2=clip_text_encoder(len(tokenizer), WIDTH_G, POOLED_G),
        text_encoder_3=None,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        tokenizer_3=None,
    )


def _noise_schedule(prediction_type: str) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def _unet(size: int, cross_attention_dim: int = WIDTH_L, **others) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=size // 2,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=8,
        **others,
    )


def small_vae(size: int, latent_channels: int = 4, scaling_factor: float = 1.0, **others) -> AutoencoderKL:
    """Divides the side by 2."""
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=size,
        scaling_factor=scaling_factor,
        **others,
    )


def clip_text_encoder(vocab_size: int, width: int = WIDTH_L, pooled: int | None = None) -> CLIPTextModel:
    """Two layers; `pooled` is the width of a projected pooled state, None for an encoder without one."""
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **({} if pooled is None else {"projection_dim": pooled}),
    )
    return CLIPTextModel(config) if pooled is None else CLIPTextModelWithProjection(config)


def clip_tokenizer(pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's byte-level BPE with the corpus's words as tokens, in the order of the corpus."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = CORPUS.replace(",", " , ").split()
    merges = merges_of([*word[:-1], f"{word[-1]}</w>"] for word in words)
    tokens = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(f"{letter}</w>" for letter in alphabet)]
    tokens = list(dict.fromkeys([*tokens, *("".join(merge) for merge in merges)]))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, pad_token=pad_token)


def merges_of(words: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """Merges of byte-pair encoding that make a token of each word, which is given in pieces."""
    merges: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = list(word)
        while len(pieces) > 1:
            pairs = list(pairwise(pieces))
            first = min(pairs, key=lambda pair: merges.get(pair, len(merges)))
            merges.setdefault(first, len(merges))
            at = pairs.index(first)
            pieces[at : at + 2] = ["".join(first)]
    return list(merges)
