"""What the families of base models (SD 1 and 2, SDXL, SD 3) differ in: text, what the denoiser is told, and its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor, nn

from skinaug.errors import InputError
from skinaug.finetune.loss import per_image
from skinaug.models.text_length import cut_off, unknown_tokens

PREDICTION_TYPES = ("epsilon", "v_prediction")
States = dict[str, Tensor]  # embeds [B, L, W], and pooled [B, P] where the family has it


def denoiser_name(pipeline: Any) -> str:
    """The component that denoises: unet or transformer."""
    return "transformer" if "transformer" in pipeline.components else "unet"


def denoiser(pipeline: Any) -> nn.Module:
    """The network that denoises."""
    network: nn.Module = pipeline.components[denoiser_name(pipeline)]
    return network


def encode(pipeline: Any, texts: Sequence[str], device: torch.device) -> States:
    """Text states as the pipeline itself makes them, with gradients where its encoders learn.

    An empty text is what guidance is taken against; for an SDXL that was trained so, that is zeros.
    """
    distinct = list(dict.fromkeys(texts))
    others = dict.fromkeys({"prompt_2", "prompt_3"} & signature(pipeline.encode_prompt).parameters.keys())
    made = pipeline.encode_prompt(
        prompt=distinct, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False, **others
    )
    states = {"embeds": made[0]} if len(made) == 2 else {"embeds": made[0], "pooled": made[2]}
    if getattr(pipeline.config, "force_zeros_for_empty_prompt", False) and "" in distinct:
        told = torch.tensor([float(text != "") for text in distinct], device=device)
        states = {name: value * per_image(told, value) for name, value in states.items()}
    rows = torch.tensor([distinct.index(text) for text in texts], device=device)
    return {name: value[rows] for name, value in states.items()}


def denoise(
    network: nn.Module, noisy: Tensor, timesteps: Tensor, states: States, original_sizes: Tensor
) -> Tensor:
    """The denoiser's output, like `noisy` [B, C, h, w].

    timesteps: float or int [B]. original_sizes: int [B, 3], height and width of the photographs, and the side of the squares
    that they became, in pixels: SDXL is told how sharp a picture can be (Podell et al. 2023, section 2.2).
    """
    if "pooled" not in states:
        return network(noisy, timesteps, states["embeds"]).sample
    if isinstance(network, UNet2DConditionModel):
        told = {"text_embeds": states["pooled"], "time_ids": time_ids(original_sizes).to(noisy)}
        return network(noisy, timesteps, states["embeds"], added_cond_kwargs=told).sample
    return network(
        hidden_states=noisy,
        timestep=timesteps,
        encoder_hidden_states=states["embeds"],
        pooled_projections=states["pooled"],
    ).sample


def time_ids(original_sizes: Tensor) -> Tensor:
    """SDXL's size conditions [B, 6]: original height and width, crop's top and left, target height and width.

    A photograph larger than its square is as sharp as any, so it counts as large as the square: that is what the pipeline
    says when it generates. Squares count as uncropped.
    """
    side = original_sizes[:, 2:]
    return torch.cat(
        [original_sizes[:, :2].minimum(side), torch.zeros_like(side), torch.zeros_like(side), side, side], 1
    )


@dataclass(frozen=True)
class NoiseSchedule:
    """x_t = signal_t x_0 + noise_t eps over T levels, and what the denoiser predicts.

    signal, noise, timesteps: float [T]; timesteps are what the denoiser is told. prediction_type: epsilon, v_prediction, or
    flow (eps - x_0: Lipman et al. 2023, Esser et al. 2024).
    """

    signal: Tensor
    noise: Tensor
    timesteps: Tensor
    prediction_type: str

    @classmethod
    def of(cls, scheduler: Any) -> NoiseSchedule:
        """That a base was trained with. Raises InputError where it predicts neither noise, velocity nor flow."""
        if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            fresh = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
            return cls(1 - fresh.sigmas, fresh.sigmas, fresh.timesteps, "flow")
        schedule = DDPMScheduler.from_config(scheduler.config)
        if schedule.config.prediction_type not in PREDICTION_TYPES:
            raise InputError(
                f"This base predicts {schedule.config.prediction_type!r}; bases that predict "
                f"{' or '.join(PREDICTION_TYPES)} or flow can be fine-tuned."
            )
        alphas = schedule.alphas_cumprod.double()
        steps = torch.arange(len(alphas))
        return cls(alphas.sqrt().float(), (1 - alphas).sqrt().float(), steps, schedule.config.prediction_type)


def check_lengths(pipeline: Any, captions: Sequence[str]) -> None:
    """Raise InputError where a caption has an unknown token, or with what would be cut off where it is too long."""
    if unknown := unknown_tokens(pipeline, captions):
        raise InputError(f"The captions have tokens that the base was not taught: {', '.join(unknown)}.")
    problems = cut_off(pipeline, captions)
    if problems:
        raise InputError(
            f"{len(problems)} captions are longer than a text encoder reads. Shorten finetune.captions.templates, or teach "
            "fewer vectors a class:\n" + "\n".join(problems[:10])
        )


def check_image_size(image_size: int, pipeline: Any) -> None:
    """Refuse pictures that the autoencoder cannot halve as often as it does."""
    factor = pipeline.vae_scale_factor
    if image_size < factor or image_size % factor:
        raise InputError(
            f"finetune.image_size={image_size}: this base takes multiples of {factor} pixels. Set scale.image_size or "
            f"finetune.image_size to {max(1, round(image_size / factor)) * factor}."
        )
