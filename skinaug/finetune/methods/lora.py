"""LoRA (Hu et al. 2021): low-rank changes of the UNet's layers; classes keep their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from skinaug.errors import InputError


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the UNet.

    Attributes:
        rank: of each change, at least 1.
        alpha: the change is scaled by alpha / rank.
        target_modules: endings of the names of the layers that are changed.
    """

    rank: int = 16
    alpha: float = 16
    target_modules: Sequence[str] = ("to_q", "to_k", "to_v", "to_out.0")

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"finetune.method.rank={self.rank}: a rank is at least 1.")
        if self.alpha <= 0:
            raise InputError(f"finetune.method.alpha={self.alpha}: it is above 0.")
        if not self.target_modules:
            raise InputError("finetune.method.target_modules is empty: name at least one kind of layer.")

    def phrases(self, classes: Sequence[str]) -> dict[str, str]:
        """Classes keep the words that the prompts have for them."""
        return {}

    def prepare(self, pipeline: Any, classes: Sequence[str], seed: int) -> list[nn.Parameter]:
        """Add the adapters; they are what learns.

        Raises:
            InputError: no layer has such a name.
        """
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=list(self.target_modules),
            init_lora_weights="gaussian",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                pipeline.unet.add_adapter(config)
            except ValueError as error:
                raise InputError(
                    f"finetune.method.target_modules={list(self.target_modules)}: {error}"
                ) from error
        return [parameter for name, parameter in pipeline.unet.named_parameters() if ".lora_" in name]

    def save(self, pipeline: Any, classes: Sequence[str], out: Path) -> None:
        """Write out/lora/pytorch_lora_weights.safetensors, as `load_lora_weights` of any diffusers pipeline reads."""
        layers = get_peft_model_state_dict(
            pipeline.unet
        )  # diffusers' older names would lose convolutions on loading
        config = pipeline.unet.peft_config["default"].to_dict()
        StableDiffusionPipeline.save_lora_weights(
            out / "lora", unet_lora_layers=layers, unet_lora_adapter_metadata=config, safe_serialization=True
        )
