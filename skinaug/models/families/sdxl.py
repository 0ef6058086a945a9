"""Stable Diffusion XL: a UNet that reads two text encoders and is told sizes (Podell et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skinaug.models.families.family import POOLED, States
from skinaug.models.families.stable_diffusion import StableDiffusion

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class StableDiffusionXL(StableDiffusion):
    name = "SDXL"
    pipeline = "StableDiffusionXLPipeline"
    parts = (*StableDiffusion.parts, "text_encoder_2", "tokenizer_2")
    lora_encoders = ("text_encoder", "text_encoder_2")
    arguments = POOLED

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        """For a base that was trained so, an empty text is zeros."""
        import torch

        embeds, _, pooled, _ = pipeline.encode_prompt(
            prompt=texts,
            prompt_2=None,
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        if pipeline.config.force_zeros_for_empty_prompt and "" in texts:
            told = torch.tensor([float(text != "") for text in texts], device=device)
            embeds, pooled = embeds * told.to(embeds)[:, None, None], pooled * told.to(pooled)[:, None]
        return {"embeds": embeds, "pooled": pooled}

    def denoise(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        """SDXL is told how sharp a picture can be (section 2.2)."""
        told = {"text_embeds": states["pooled"], "time_ids": time_ids(original_sizes).to(noisy)}
        return network(noisy, timesteps, states["embeds"], added_cond_kwargs=told).sample


def time_ids(original_sizes: Tensor) -> Tensor:
    """SDXL's size conditions [B, 6]: original height and width, crop's top and left, target height and width.

    A photograph larger than its square is as sharp as any, so it counts as large as the square: that is what the pipeline
    says when it generates. Squares count as uncropped.
    """
    import torch

    side = original_sizes[:, 2:]
    return torch.cat(
        [original_sizes[:, :2].minimum(side), torch.zeros_like(side), torch.zeros_like(side), side, side], 1
    )
