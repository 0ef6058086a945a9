"""Z-Image: a transformer over a stream of places and words that learned a flow (arXiv 2511.22699); its turbo was distilled to few steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skinaug.models.families.family import TOLD, UNTOLD, Family, States, as_message

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ZImage(Family):
    name = "Z-Image"
    pipeline = "ZImagePipeline"
    parts = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
    schedulers = ("flow",)  # diffusers hands others a shift that they refuse
    branches = ((TOLD, UNTOLD),)
    chats = True

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        """Words by a language model that reads them as a user's message; `mask` is where there are any."""
        embeds, _ = pipeline.encode_prompt(
            prompt=list(texts),  # the pipeline writes its messages into this list
            device=device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.limit(pipeline, "text_encoder"),
        )
        return filled_up(embeds)

    def limit(self, pipeline: Any, encoder: str) -> int:
        """As the pipeline asks for, with the message around the text."""
        return 512

    def spelled(self, pipeline: Any, encoder: str, text: str) -> str:
        return as_message(pipeline.tokenizer, text, thinking=True)

    def denoise(
        self, network: Any, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        """Time runs from noise, 0, to the picture, 1, and the output points that way too; latents have a frame, [C, 1, h, w]."""
        import torch

        pictures, words = list(noisy[:, :, None]), cut(states)
        predicted = network(pictures, 1 - timesteps / 1000, words, return_dict=False)[0]
        return -torch.stack(predicted)[:, :, 0]

    def text_arguments(self, told: States, untold: States | None) -> dict[str, Any]:
        arguments = {"prompt_embeds": cut(told)}
        return arguments | ({"negative_prompt_embeds": cut(untold)} if untold else {})

    def guidance_arguments(self, scale: float) -> dict[str, float]:
        """The pipeline counts what is added to the prediction with the text: 0 for none."""
        return {"guidance_scale": scale - 1}

    def share(self, timestep: float, num_train_timesteps: int) -> float:
        return 1 - timestep

    def patch(self, denoiser_config: Mapping[str, Any]) -> int:
        """Of a denoiser with several, the pipeline takes 2."""
        return 2


def filled_up(words: list[Tensor]) -> States:
    """States of B texts of different length: `embeds` [B, L, W], zeros after the end, and `mask`, bool [B, L]."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    masks = [torch.ones(len(one), dtype=torch.bool, device=one.device) for one in words]
    return {"embeds": pad_sequence(words, batch_first=True), "mask": pad_sequence(masks, batch_first=True)}


def cut(states: States) -> list[Tensor]:
    """What `filled_up` was given: each text's own states."""
    return [embeds[mask] for embeds, mask in zip(states["embeds"], states["mask"], strict=True)]
