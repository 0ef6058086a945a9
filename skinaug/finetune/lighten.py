"""How a training is made to need less memory and time."""

from __future__ import annotations

import torch
from lightning import Trainer

from skinaug.finetune.module import DiffusionFinetuner
from skinaug.finetune.sharding import is_sharded
from skinaug.models.trainer import HALF


def lighten(module: DiffusionFinetuner, fitter: Trainer, gradient_checkpointing: bool, compile: bool) -> None:
    """Frozen weights of the denoiser in the precision that it computes in, and what the settings ask for.

    gradient_checkpointing, compile: as in `finetune.Finetune`.
    """
    for parameter in module.denoiser.parameters():
        if not parameter.requires_grad and parameter.is_floating_point():  # others are quantised
            parameter.data = parameter.data.to(HALF.get(str(fitter.precision), parameter.dtype))
    if not is_sharded(fitter):  # FSDP takes contiguous weights only
        module.denoiser.to(memory_format=torch.channels_last)
    if gradient_checkpointing:
        module.denoiser.enable_gradient_checkpointing()
    if compile:
        module.denoiser.compile()
