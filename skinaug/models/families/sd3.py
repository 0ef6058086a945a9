"""Stable Diffusion 3: a transformer over words and places that learned a flow (Esser et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skinaug.models.families.family import POOLED, Family, States

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class StableDiffusion3(Family):
    name = "SD 3"
    pipeline = "StableDiffusion3Pipeline"
    parts = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae")
    optional = ("text_encoder_3", "tokenizer_3")
    lora_encoders = ("text_encoder", "text_encoder_2")  # diffusers saves no changes of T5
    arguments = POOLED

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        embeds, _, pooled, _ = pipeline.encode_prompt(
            prompt=texts,
            prompt_2=None,
            prompt_3=None,
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return {"embeds": embeds, "pooled": pooled}

    def limit(self, pipeline: Any, encoder: str) -> int:
        """The pipeline asks T5 for 256, whose tokenizer tells a larger number."""
        return 256 if encoder == "text_encoder_3" else super().limit(pipeline, encoder)

    def denoise(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        return network(
            hidden_states=noisy,
            timestep=timesteps,
            encoder_hidden_states=states["embeds"],
            pooled_projections=states["pooled"],
        ).sample
