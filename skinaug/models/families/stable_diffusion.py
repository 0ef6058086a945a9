"""Stable Diffusion 1 and 2: a UNet that reads CLIP's words and removes noise (Rombach et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skinaug.models.families.family import FULL, LORA, NOISE_SCHEDULERS, TEXTUAL_INVERSION, Family, States

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class StableDiffusion(Family):
    name = "SD 1, 2"
    pipeline = "StableDiffusionPipeline"
    parts: tuple[str, ...] = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
    denoiser = "unet"
    flow = False
    methods: tuple[str, ...] = (LORA, FULL, TEXTUAL_INVERSION)
    schedulers: tuple[str, ...] = NOISE_SCHEDULERS
    image_schedulers: tuple[str, ...] = NOISE_SCHEDULERS
    inpaint_schedulers: tuple[str, ...] = NOISE_SCHEDULERS
    lora_encoders: tuple[str, ...] = ("text_encoder",)

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        embeds, _ = pipeline.encode_prompt(
            prompt=texts, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"embeds": embeds}

    def spelled(self, pipeline: Any, encoder: str, text: str) -> str:
        """Textual inversion's words stand for several tokens."""
        return pipeline.maybe_convert_prompt(
            text, pipeline.components[encoder.replace("text_encoder", "tokenizer")]
        )

    def denoise(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        return network(noisy, timesteps, states["embeds"]).sample

    def patch(self, denoiser_config: Mapping[str, Any]) -> int:
        return 1
