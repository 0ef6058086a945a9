"""How a family's pipeline is made to draw what the settings ask for: its sampler, its checks and its arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)
from torch import Tensor
from torch.nn.functional import max_pool2d

from skinaug.errors import InputError, plural
from skinaug.generate.settings import Settings, check_channels, check_fit
from skinaug.models.base_folder import read_index
from skinaug.models.families.family import Family, guidance_of
from skinaug.models.families.table import denoiser, family_in, family_of
from skinaug.models.text_length import cut_off, unknown_tokens

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),  # latents are not bounded by [-1, 1]
    "dpmsolver++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "flow": (FlowMatchEulerDiscreteScheduler, {}),
}


def drawing_pipeline(pipeline: DiffusionPipeline, settings: Settings) -> DiffusionPipeline:
    """The pipeline that draws such pictures over the same networks, with the scheduler that the settings name."""
    pipeline.scheduler = build_scheduler(settings.scheduler, pipeline)
    if settings.from_parents:
        kind = AutoPipelineForImage2Image if settings.mode == "image" else AutoPipelineForInpainting
        pipeline = kind.from_pipe(pipeline)
        pipeline.set_progress_bar_config(disable=True)
    if settings.inpaint and pipeline.unet.config.in_channels == pipeline.vae.config.latent_channels:
        # By this number the pipeline tells that a UNet reads latents alone, of however many channels; the UNet itself has no use for it.
        pipeline.unet.register_to_config(in_channels=4)
    if getattr(pipeline, "watermark", None) is not None:
        pipeline.watermark = None  # SDXL's changes pixels wherever a further package happens to be installed
    return pipeline


def build_scheduler(name: str, pipeline: DiffusionPipeline) -> SchedulerMixin:
    """One of settings.SCHEDULERS over the noise levels and the prediction type that the pipeline was trained with."""
    return _scheduler(name, pipeline.scheduler.config, family_of(pipeline).flow)


def check_scheduler(folder: Path, settings: Settings) -> None:
    """Refuse a pipeline's folder whose noise levels the scheduler that the settings name cannot draw along.

    Raises:
        InputError: the scheduler refuses the folder's configuration, or makes levels of it that are no numbers or do not fall.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    config, flow = json.loads(file.read_text()), family_in(read_index(folder)).flow
    try:
        scheduler = _scheduler(settings.scheduler, config, flow)
        shift = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting") else {}
        scheduler.set_timesteps(settings.num_inference_steps, **shift)
        fault = _fault(scheduler)
    except Exception as error:  # of many kinds: each scheduler has its own
        fault = str(error)
    if fault:
        raise InputError(
            f"{file} does not suit generate.scheduler={settings.scheduler} with {settings.num_inference_steps} steps: {fault}. Correct its "
            "betas and what it says of sigmas, or choose another scheduler."
        )


def _levels(scheduler: SchedulerMixin) -> np.ndarray:
    """The noise over the signal, or for flows the share of noise, at each step: from the most to the least."""
    if hasattr(scheduler, "sigmas"):
        return np.asarray(scheduler.sigmas, np.float64)
    signal = np.asarray(scheduler.alphas_cumprod, np.float64)[np.asarray(scheduler.timesteps)]
    predicts_picture = (
        scheduler.config.prediction_type != "epsilon"
    )  # the only one that divides by the signal
    with np.errstate(divide="ignore"):
        return np.sqrt((1 - signal) / (signal + 1e-12 * predicts_picture))


def _fault(scheduler: SchedulerMixin) -> str | None:
    """What is wrong with a scheduler's noise levels; None for nothing."""
    trained, count = scheduler.config.num_train_timesteps, len(getattr(scheduler, "alphas_cumprod", ()))
    if count not in (0, trained):
        return f"it has betas of {count} noise levels, and num_train_timesteps is {trained}"
    levels = _levels(scheduler)
    if not np.isfinite(levels).all():
        return "some of its noise levels are no finite numbers"
    if (levels < 0).any() or (np.diff(levels) > 0).any():
        return "its noise levels do not fall from step to step"
    return None


def _scheduler(name: str, config: Mapping[str, Any], flow: bool) -> SchedulerMixin:
    kind, options = KINDS[name]
    if flow:  # each kind of sampler has its own word for the shift
        shift = config.get("shift", config.get("flow_shift", 1.0))
        sigmas = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}
        options = options | ({"shift": shift} if name == "flow" else sigmas)
    return kind.from_config(config, **options)


def check_pipeline(pipeline: DiffusionPipeline, settings: Settings) -> None:
    """Raise InputError where a pipeline cannot draw what the settings ask for."""
    family, network = family_of(pipeline), denoiser(pipeline)
    factor = family.drawn_factor(pipeline.vae.config, network.config)
    check_fit(settings, family, factor, guidance_of(family, pipeline))
    check_channels(settings, pipeline.vae.config, network.config)


def check_prompts(pipeline: DiffusionPipeline, prompts: Sequence[str]) -> None:
    """Raise InputError where a prompt has an unknown token, or with what would be cut off where it is too long."""
    if unknown := unknown_tokens(pipeline, prompts):
        raise InputError(
            f"The prompts have tokens that these weights were not taught: {', '.join(unknown)}. Write {{label}} where a class's "
            "token belongs, or fine-tune with finetune=textual_inversion."
        )
    problems = cut_off(pipeline, prompts)
    if problems:
        raise InputError(
            f"{plural(len(problems), 'prompt is longer', 'prompts are longer')} than a text encoder reads. Shorten the templates, or teach fewer vectors a "
            "class:\n" + "\n".join(problems[:10])
        )


def picture_arguments(
    pipeline: DiffusionPipeline,
    family: Family,
    settings: Settings,
    parents: Tensor | None,
    areas: Tensor | None = None,
) -> Mapping[str, Any]:
    """A pipeline's arguments for the pictures' size, for the parents that they start from, [B, 3, H, W] in [0, 1], and for the areas
    that are drawn anew, [B, 1, H, W] of 0 and 1.

    pipeline: as `drawing_pipeline` made it of the family's.
    """
    size = {"height": settings.image_size, "width": settings.image_size}
    if settings.mode == "text":
        return size
    takes = signature(pipeline.__call__).parameters
    start: dict[str, Any] = {"image": parents, "strength": start_strength(settings, family.flow)}
    if areas is not None:
        start["mask_image"] = whole_places(areas, pipeline.vae_scale_factor)
    return start | {name: value for name, value in size.items() if name in takes}


def whole_places(areas: Tensor, side: int) -> Tensor:
    """Areas [B, 1, H, W] of 0 and 1 grown to whole places of the autoencoder, of `side` pixels each: the pipelines look at one pixel of
    a place, and what they take for outside would keep the parent's lesion."""
    return max_pool2d(areas, side).repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)


def start_strength(settings: Settings, flow: bool) -> float:
    """The strength, where a pipeline would round it to no step at all the least one that makes one step.

    The pipelines of SD and SDXL take int(steps * strength) steps, SD 3's the next whole number above.
    """
    steps, strength = settings.num_inference_steps, settings.strength or 1.0
    return strength if flow or int(steps * strength) else min(1.5 / steps, 1.0)
