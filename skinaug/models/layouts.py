"""How published files of weights name what they hold: told from headers, before torch is imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from skinaug.errors import InputError

LORA_FILE = "pytorch_lora_weights.safetensors"
PEFT_CONFIG, PEFT_FILE = "adapter_config.json", "adapter_model.safetensors"
# Of a token's vectors for SDXL: its two text encoders and their tokenizers.
ENCODERS = {"clip_l": ("text_encoder", "tokenizer"), "clip_g": ("text_encoder_2", "tokenizer_2")}

DENOISER, AUTOENCODER = "model.diffusion_model.", "first_stage_model."
# What is in such files and draws no picture: the average of the weights and the noise levels of training, the last layer of
# Stable Diffusion 2's encoder, which nobody reads, and constants.
DRAWS_NOTHING = re.compile(
    r"model_ema\..*|betas|(sqrt_|log_one_minus_|posterior_|alphas_cumprod|lvlb_).*|logvar|scale_factor|denoiser\..*"
    r"|first_stage_model\.(loss|model_ema)\..*|cond_stage_model\.model\.(transformer\.resblocks\.23\..*|text_projection)"
    r"|(cond_stage_model|conditioner)\..*(position_ids|logit_scale|attn_mask)"
)


@dataclass(frozen=True)
class Layout:
    """A whole Stable Diffusion in one file, under the names of its first authors' code.

    Attributes:
        name: of the family.
        pipeline: diffusers' class.
        prefixes: of the names of each part's tensors.
    """

    name: str
    pipeline: str
    prefixes: Mapping[str, str]


BODY = {"unet": DENOISER, "vae": AUTOENCODER}
LAYOUTS = (
    Layout(
        "Stable Diffusion 1",
        "StableDiffusionPipeline",
        {**BODY, "text_encoder": "cond_stage_model.transformer."},
    ),
    Layout(
        "Stable Diffusion 2", "StableDiffusionPipeline", {**BODY, "text_encoder": "cond_stage_model.model."}
    ),
    Layout(
        "SDXL",
        "StableDiffusionXLPipeline",
        {
            **BODY,
            "text_encoder": "conditioner.embedders.0.transformer.",
            "text_encoder_2": "conditioner.embedders.1.model.",
        },
    ),
)


def is_single_file(names: Iterable[str]) -> bool:
    """Whether tensors of these names are a denoiser's in such a layout, be it whole or not."""
    return any(name.startswith(DENOISER) for name in names)


def layout_of(path: Path, names: Iterable[str]) -> Layout:
    """The layout of a file with tensors of these names.

    Raises:
        InputError: it is none of LAYOUTS, or lacks a whole part.
    """
    names = list(names)
    lacking = [
        [
            f"{part} ({prefix}*)"
            for part, prefix in layout.prefixes.items()
            if not any(name.startswith(prefix) for name in names)
        ]
        for layout in LAYOUTS
    ]
    least, nearest = min(zip(lacking, LAYOUTS, strict=True), key=lambda pair: len(pair[0]))
    if least:
        raise InputError(
            f"{path} is a checkpoint in one file that cannot be taken as it is: for {nearest.name} it lacks "
            f"{', '.join(least)}. {', '.join(layout.name for layout in LAYOUTS)} can be taken with all their parts. "
            f"Convert others with diffusers and give the folder: <pipeline class>.from_single_file({str(path)!r}, ...)"
            ".save_pretrained(<folder>)."
        )
    return nearest


def part_of(name: str, layout: Layout) -> str:
    """The part that a tensor belongs to; "" for none."""
    return next((part for part, prefix in layout.prefixes.items() if name.startswith(prefix)), "")


def pieces(name: str) -> int:
    """How many tensors of diffusers' a tensor becomes: OpenCLIP keeps query, key and value in one."""
    return 3 if name.endswith((".in_proj_weight", ".in_proj_bias")) else 1
