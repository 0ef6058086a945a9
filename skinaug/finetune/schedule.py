"""The noise that a base was trained with, level by level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from skinaug.errors import InputError

PREDICTION_TYPES = ("epsilon", "v_prediction")


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
        """That a base was trained with. A flow's levels are dense, so a shift that depends on the picture's size is left to drawing.

        Raises InputError where it predicts neither noise, velocity nor flow.
        """
        if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            return cls.of_flow(FlowMatchEulerDiscreteScheduler.from_config(scheduler.config))
        if scheduler.config.get("use_flow_sigmas"):  # a sampler of another kind that draws along a flow
            return cls.of_flow(FlowMatchEulerDiscreteScheduler(shift=scheduler.config.flow_shift))
        schedule = DDPMScheduler.from_config(scheduler.config)
        if schedule.config.prediction_type not in PREDICTION_TYPES:
            raise InputError(
                f"This base predicts {schedule.config.prediction_type!r}; bases that predict "
                f"{' or '.join(PREDICTION_TYPES)} or flow can be fine-tuned."
            )
        alphas = schedule.alphas_cumprod.double()
        steps = torch.arange(len(alphas))
        return cls(alphas.sqrt().float(), (1 - alphas).sqrt().float(), steps, schedule.config.prediction_type)

    @classmethod
    def of_flow(cls, scheduler: FlowMatchEulerDiscreteScheduler) -> NoiseSchedule:
        """The straight lines of a scheduler whose steps were not set yet."""
        return cls(1 - scheduler.sigmas, scheduler.sigmas, scheduler.timesteps, "flow")
