"""FLUX.2 klein: a transformer over patches that reads three layers of Qwen3; guided as usual (base), or distilled to a few steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skinaug.models.families.family import TOLD, TWO_PREDICTIONS, UNGUIDED, UNTOLD, States, as_message
from skinaug.models.families.flux import OF_WORDS, PackedFlow, packed, places, unpacked

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Flux2Klein(PackedFlow):
    name = "FLUX.2 klein"
    pipeline = "Flux2KleinPipeline"
    parts = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
    image_schedulers = ()  # its pipeline takes pictures as examples, not as starts
    branches = ((TOLD,), (UNTOLD,))
    chats = True
    # Most of its blocks have one layer for query, key, value and what a perceptron would have.
    lora_layers: Mapping[str, tuple[str, ...]] = {**OF_WORDS, "to_q": (*OF_WORDS["to_q"], "to_qkv_mlp_proj")}

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        embeds, _ = pipeline.encode_prompt(prompt=texts, device=device, num_images_per_prompt=1)
        return {"embeds": embeds}

    def limit(self, pipeline: Any, encoder: str) -> int:
        """As the pipeline calls Qwen3, which could read more."""
        return pipeline.tokenizer_max_length

    def spelled(self, pipeline: Any, encoder: str, text: str) -> str:
        """Qwen3 is spoken to as in a chat."""
        return as_message(pipeline.tokenizer, text, thinking=False)

    def denoise(
        self, network: Any, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        """Words lie along a fourth axis, which pictures do not have."""
        embeds, squares = states["embeds"], places(noisy)
        words, pictures = noisy.new_zeros(embeds.shape[1], 4), noisy.new_zeros(len(squares), 4)
        words[:, 3] = words.new_ones(len(words)).cumsum(0) - 1
        pictures[:, :3] = squares
        predicted = network(
            hidden_states=packed(noisy),
            timestep=timesteps / 1000,
            guidance=None,
            encoder_hidden_states=embeds,
            txt_ids=words,
            img_ids=pictures,
            return_dict=False,
        )[0]
        return unpacked(predicted, noisy)

    def normalise(self, vae: Any, latents: Tensor) -> Tensor:
        """By mean and variance of each channel and place within a square of 2, which the autoencoder keeps."""
        mean = vae.bn.running_mean.to(latents)
        deviation = (vae.bn.running_var.to(latents) + vae.config.batch_norm_eps).sqrt()
        return unpacked((packed(latents) - mean) / deviation, latents)

    def widths(self, vae_config: Mapping[str, Any]) -> Any:
        return vae_config.get("decoder_block_out_channels") or vae_config["block_out_channels"]

    def guidance(self, index: Mapping[str, Any], denoiser_config: Mapping[str, Any]) -> str:
        return UNGUIDED if index.get("is_distilled") else TWO_PREDICTIONS
