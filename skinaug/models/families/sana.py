"""SANA: a transformer of linear attention over a strongly compressed picture that learned a flow (Xie et al. 2024, arXiv 2410.10629)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from skinaug.models.families.family import AS_ASKED, MASKED, Family, States, cleaned

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TOKENS = 300  # of the text's own part, which the pipeline's call asks for


class Sana(Family):
    name = "SANA"
    pipeline = "SanaPipeline"
    parts = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
    image_schedulers = ()
    arguments = MASKED
    call = AS_ASKED

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        """Words by Gemma, after the instruction that the pipeline's call puts before a text, and where there are any. Before no text
        it puts none."""
        import torch

        told, untold = [text for text in texts if text], [text for text in texts if not text]
        read = [
            pipeline.encode_prompt(
                prompt=part,
                do_classifier_free_guidance=False,
                num_images_per_prompt=1,
                device=device,
                max_sequence_length=TOKENS,
                complex_human_instruction=before,
            )[:2]
            for part, before in ((told, instruction(pipeline)), (untold, None))
            if part
        ]
        embeds, mask = (torch.cat(values) for values in zip(*read, strict=True))
        rows = torch.tensor([(told + untold).index(text) for text in texts], device=device)
        return {"embeds": embeds[rows], "mask": mask[rows]}

    def limit(self, pipeline: Any, encoder: str) -> int:
        """With the instruction, and as the pipeline counts the two together."""
        return len(pipeline.tokenizer("\n".join(instruction(pipeline))).input_ids) + TOKENS - 2

    def spelled(self, pipeline: Any, encoder: str, text: str) -> str:
        return "\n".join(instruction(pipeline)) + cleaned(text)

    def denoise(
        self, network: Any, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        return network(
            noisy,
            encoder_hidden_states=states["embeds"],
            encoder_attention_mask=states["mask"],
            timestep=timesteps * network.config.timestep_scale,
        ).sample[:, : noisy.shape[1]]

    def moments(self, vae: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        """The autoencoder knows no deviation."""
        latents = vae.encode(images).latent
        return latents, latents.new_zeros(latents.shape)

    def widths(self, vae_config: Mapping[str, Any]) -> Sequence[int]:
        return vae_config["encoder_block_out_channels"]

    def drawn_factor(self, vae_config: Mapping[str, Any], denoiser_config: Mapping[str, Any]) -> int:
        """The pipeline asks for 32 pixels whatever the autoencoder."""
        return math.lcm(32, self.factor(vae_config, denoiser_config))


def instruction(pipeline: Any) -> list[str]:
    """Lines that the pipeline's call puts before a text: Gemma is asked to make more of it, though only its states are used."""
    return signature(pipeline.__call__).parameters["complex_human_instruction"].default
