"""The denoiser's call, adapted while pictures are drawn: guidance in an interval, float32 between the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Call = Callable[..., Any]


@contextmanager
def replaced(owner: Any, name: str, function: Call) -> Iterator[None]:
    """The owner's method exchanged for a function, inside the block only."""
    before = vars(owner).get(name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)


def adapted(forward: Call, interval: tuple[float, float], num_train_timesteps: int) -> Call:
    """A denoiser's forward that guides in an interval of noise levels only (Kynkaanniemi et al. 2024), and whose outputs
    have its sample's type: under autocast, bf16 would round the sampler's state at every step.

    A guiding pipeline sends both branches in one batch, the one without a text first: [2 B, ...]. Outside of the interval
    only the branch with the text is computed and handed back as both, so the guided prediction is exactly that.

    interval: shares of num_train_timesteps, both ends inside; (0, 1) is everywhere.
    """
    low, high = interval

    def call(*args: Any, **others: Any) -> tuple[Tensor, ...]:
        sample, timestep = args if args else (others["hidden_states"], others["timestep"])  # UNet, SD 3
        if interval == (0.0, 1.0) or low <= float(timestep.reshape(-1)[0]) / num_train_timesteps <= high:
            outputs = forward(*args, **others)
        else:
            halves = [_later_half(value, len(sample)) for value in (list(args), others)]
            outputs = [torch.cat([output, output]) for output in forward(*halves[0], **halves[1])]
        return tuple(output.to(sample.dtype) for output in outputs)

    return call


def without_autocast(call: Call, device: str) -> Call:
    """A call in its weights' own precision: SDXL's autoencoder overflows in half precision."""

    def exact(*args: Any, **others: Any) -> Any:
        with torch.autocast(device, enabled=False):
            return call(*args, **others)

    return exact


def _later_half(value: Any, both: int) -> Any:
    """The later half of each tensor of `both` rows, however nested; all else as it is."""
    if isinstance(value, Tensor):
        return value[both // 2 :] if value.ndim and len(value) == both else value
    if isinstance(value, list):
        return [_later_half(item, both) for item in value]
    if isinstance(value, dict):
        return {name: _later_half(item, both) for name, item in value.items()}
    return value
