"""PixArt: a transformer that reads T5's words and removes noise; alpha (Chen et al. 2023) is told sizes, sigma (Chen et al. 2024) is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skinaug.models.families.family import AS_ASKED, MASKED, NOISE_SCHEDULERS, Family, States, cleaned

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class PixArtSigma(Family):
    """tokens: of a text that the pipeline reads."""

    name = "PixArt-Sigma"
    pipeline = "PixArtSigmaPipeline"
    parts = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
    flow = False
    schedulers = NOISE_SCHEDULERS
    image_schedulers = ()
    lora_by_pipeline = False
    arguments = MASKED
    call = AS_ASKED
    tokens = 300

    def read(self, pipeline: Any, texts: list[str], device: torch.device) -> States:
        """Words by T5, and where there are any. The pipeline's own cleaning of texts is left out: it depends on what is installed."""
        embeds, mask, *_ = pipeline.encode_prompt(
            prompt=texts,
            do_classifier_free_guidance=False,
            num_images_per_prompt=1,
            device=device,
            max_sequence_length=self.tokens,
        )
        return {"embeds": embeds, "mask": mask}

    def limit(self, pipeline: Any, encoder: str) -> int:
        return self.tokens

    def spelled(self, pipeline: Any, encoder: str, text: str) -> str:
        return cleaned(text)

    def denoise(
        self, network: Any, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
    ) -> Tensor:
        """The denoiser predicts the noise and, in as many channels more, its variance, which no sampler reads and nothing teaches."""
        return network(
            noisy,
            encoder_hidden_states=states["embeds"],
            encoder_attention_mask=states["mask"],
            timestep=timesteps,
            added_cond_kwargs=self.sizes(original_sizes, noisy),
        ).sample[:, : noisy.shape[1]]

    def sizes(self, original_sizes: Tensor, like: Tensor) -> dict[str, Tensor | None]:
        """What the denoiser is told of pictures' sizes, `resolution` [B, 2] and `aspect_ratio` [B, 1]: nothing."""
        return {"resolution": None, "aspect_ratio": None}


class PixArtAlpha(PixArtSigma):
    name = "PixArt-alpha"
    pipeline = "PixArtAlphaPipeline"
    least_steps = (
        2  # its pipeline takes what a sampler returns second of a single step, and most return one thing
    )
    tokens = 120

    def sizes(self, original_sizes: Tensor, like: Tensor) -> dict[str, Tensor | None]:
        """A denoiser of 1024 px is told how sharp a picture can be; those of smaller ones do not read it.

        A photograph larger than its square counts as large as that, which is what the pipeline says when it draws.
        """
        side = original_sizes[:, 2:]
        return {
            "resolution": original_sizes[:, :2].minimum(side).to(like),
            "aspect_ratio": like.new_ones(len(like), 1),
        }
