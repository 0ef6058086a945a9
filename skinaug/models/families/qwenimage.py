"""Qwen-Image: a transformer over words and patches that learned a flow (Wu et al. 2025, arXiv 2508.02324)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skinaug.models.families.family import TOLD, UNTOLD, States
from skinaug.models.families.flux import PackedFlow, packed, unpacked

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TOKENS = 512  # of the message's own part, which the pipeline's call asks for


class QwenImage(PackedFlow):
    name = "Qwen-Image"
    pipeline = "QwenImagePipeline"
    parts = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
    branches = ((TOLD,), (UNTOLD,))
    unread = True
    arguments: Mapping[str, str] = {"embeds": "prompt_embeds", "mask": "prompt_embeds_mask"}

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        """Words by a language model that is asked to describe a picture; the question itself is left out. `mask` is where there are
        any."""
        embeds, mask = pipeline.encode_prompt(texts, device=device, max_sequence_length=TOKENS)
        everywhere = embeds.new_ones(embeds.shape[:2])  # the pipeline tells no mask where all are as long
        return {"embeds": embeds, "mask": (everywhere if mask is None else mask).bool()}

    def limit(self, pipeline: Any, encoder: str) -> int:
        """With the question before the text."""
        return pipeline.prompt_template_encode_start_idx + TOKENS

    def spelled(self, pipeline: Any, encoder: str, text: str) -> str:
        return pipeline.prompt_template_encode.format(text)

    def denoise(
        self, network: Any, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        states = shortened(states)
        rows, columns = (side // 2 for side in noisy.shape[2:])
        predicted = network(
            hidden_states=packed(noisy),
            timestep=timesteps / 1000,
            encoder_hidden_states=states["embeds"],
            encoder_hidden_states_mask=states["mask"],
            img_shapes=[[(1, rows, columns)]] * len(noisy),
            return_dict=False,
        )[0]
        return unpacked(predicted, noisy)

    def text_arguments(self, told: States, untold: States | None) -> dict[str, Any]:
        return super().text_arguments(shortened(told), shortened(untold) if untold else None)

    def guidance_arguments(self, scale: float) -> dict[str, float]:
        return {"true_cfg_scale": scale}

    def moments(self, vae: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        """The autoencoder is one of videos: pictures are a frame, [B, 3, 1, H, W]."""
        mean, deviation = super().moments(vae, images[:, :, None])
        return mean[:, :, 0], deviation[:, :, 0]

    def normalise(self, vae: Any, latents: Tensor) -> Tensor:
        """Each channel has a mean and a deviation of its own."""
        mean, deviation = (
            latents.new_tensor(values)[:, None, None]
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return (latents - mean) / deviation

    def widths(self, vae_config: Mapping[str, Any]) -> Sequence[int]:
        return [vae_config["base_dim"] * factor for factor in vae_config["dim_mult"]]


def shortened(states: States) -> States:
    """States up to the end of the longest text; without a mask where all are as long, as the pipeline tells it."""
    length = int(states["mask"].sum(1).max())
    mask = states["mask"][:, :length]
    return {"embeds": states["embeds"][:, :length], "mask": None if mask.all() else mask}
