"""FLUX.1: a transformer over patches that learned a flow; dev is told its guidance by a number, schnell was distilled to few steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skinaug.models.families.family import EMBEDDED, POOLED, UNGUIDED, Family, States

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# What the layers of attention are called besides where words and places have layers of their own.
OF_WORDS = {
    "to_q": ("add_q_proj",),
    "to_k": ("add_k_proj",),
    "to_v": ("add_v_proj",),
    "to_out.0": ("to_add_out",),
}


class PackedFlow(Family):
    """Of pipelines that pack squares of 2 places, whatever the configuration counts, and tell the denoiser a level of noise in [0, 1]."""

    schedulers = ("flow",)  # diffusers hands others a shift that they refuse
    lora_layers: Mapping[str, tuple[str, ...]] = OF_WORDS

    def patch(self, denoiser_config: Mapping[str, Any]) -> int:
        return 2

    def share(self, timestep: float, num_train_timesteps: int) -> float:
        return timestep


class Flux(PackedFlow):
    name = "FLUX.1"
    pipeline = "FluxPipeline"
    parts = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae")
    lora_encoders = ("text_encoder",)
    arguments = POOLED

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        """Words by T5, and CLIP's summary."""
        limit = self.limit(pipeline, "text_encoder_2")
        embeds, pooled, _ = pipeline.encode_prompt(
            prompt=texts, prompt_2=None, device=device, num_images_per_prompt=1, max_sequence_length=limit
        )
        return {"embeds": embeds, "pooled": pooled}

    def limit(self, pipeline: Any, encoder: str) -> int:
        """schnell was trained on half as many of T5's tokens as dev."""
        if encoder == "text_encoder":
            return super().limit(pipeline, encoder)
        return 512 if pipeline.transformer.config.guidance_embeds else 256

    def denoise(
        self, network: Any, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        """Where it is told its guidance, that is 1: the flow of the pictures themselves, which is what is learned. A larger number,
        when it draws, then does what it did before."""
        guidance = noisy.new_ones(len(noisy)) if network.config.guidance_embeds else None
        predicted = network(
            hidden_states=packed(noisy),
            timestep=timesteps / 1000,
            guidance=guidance,
            pooled_projections=states["pooled"],
            encoder_hidden_states=states["embeds"],
            txt_ids=noisy.new_zeros(states["embeds"].shape[1], 3),
            img_ids=places(noisy),
            return_dict=False,
        )[0]
        return unpacked(predicted, noisy)

    def guidance(self, index: Mapping[str, Any], denoiser_config: Mapping[str, Any]) -> str:
        return EMBEDDED if denoiser_config["guidance_embeds"] else UNGUIDED


def packed(latents: Tensor) -> Tensor:
    """Latents [B, C, h, w] as squares of 2 places: [B, h / 2 * w / 2, 4 C]."""
    squares = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # B, C, rows, 2, columns, 2
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(squares: Tensor, like: Tensor) -> Tensor:
    """What `packed` makes of latents like `like`, back: [B, C, h, w]."""
    channels, height, width = like.shape[1:]
    split = squares.unflatten(2, (channels, 2, 2)).unflatten(1, (height // 2, width // 2))
    return split.permute(0, 3, 1, 4, 2, 5).reshape(like.shape)


def places(latents: Tensor) -> Tensor:
    """Where the squares of 2 places lie, [h / 2 * w / 2, 3]: always 0, row, column."""
    import torch

    rows, columns = (torch.arange(side // 2) for side in latents.shape[2:])
    return torch.cartesian_prod(torch.zeros(1, dtype=torch.long), rows, columns).to(latents)
