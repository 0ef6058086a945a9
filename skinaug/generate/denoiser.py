"""The denoiser's call, adapted while pictures are drawn: guidance in an interval, float32 between the steps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any, TypeAlias

import torch
from torch import Tensor

from skinaug.models.families.family import TOLD, Family

Call = Callable[..., Any]
Output: TypeAlias = Tensor | list[Tensor]  # some denoisers give a list of pictures


def adapted(forward: Call, interval: tuple[float, float], num_train_timesteps: int, family: Family) -> Call:
    """A denoiser's forward that guides in an interval of noise levels only (Kynkaanniemi et al. 2024), and whose outputs
    have its sample's type: under autocast, bf16 would round the sampler's state at every step.

    A guiding pipeline asks for two predictions, in one batch [2 B, ...] or in two calls (`Family.branches`). Outside of the
    interval only the one with the text is computed and handed back as both, so the guided prediction is exactly that.

    interval: shares of num_train_timesteps, both ends inside; (0, 1) is everywhere.
    """
    low, high = interval
    turns, told = cycle(family.branches), None

    def call(*args: Any, **others: Any) -> tuple[Output, ...]:
        nonlocal told
        branches = next(turns)
        others["return_dict"] = False  # some pipelines leave it out, and take the first of whatever comes
        sample = args[0] if args else others["hidden_states"]
        timestep = args[1] if len(args) > 1 else others["timestep"]
        level = family.share(float(timestep.reshape(-1)[0]), num_train_timesteps)
        if interval == (0.0, 1.0) or low <= level <= high:
            outputs = forward(*args, **others)
        elif len(branches) == 2:
            part, rows = branches.index(TOLD), len(sample)
            half = forward(
                *(_half(v, rows, part) for v in args), **{n: _half(v, rows, part) for n, v in others.items()}
            )
            outputs = [_twice(output) for output in half]
        else:
            outputs = told = forward(*args, **others) if branches == (TOLD,) else told
        dtype = sample.dtype if isinstance(sample, Tensor) else sample[0].dtype
        return tuple(_cast(output, dtype) for output in outputs)

    return call


def _half(value: Any, both: int, part: int) -> Any:
    """The first (0) or later (1) half of each tensor or list of `both` rows, in however many dictionaries; all else as it is."""
    if isinstance(value, dict):
        return {name: _half(item, both, part) for name, item in value.items()}
    rows = value.ndim if isinstance(value, Tensor) else isinstance(value, list)
    if rows and len(value) == both:
        return value[part * both // 2 : (part + 1) * both // 2]
    return value


def _twice(output: Output) -> Output:
    return torch.cat([output, output]) if isinstance(output, Tensor) else output + output


def _cast(output: Output, dtype: torch.dtype) -> Output:
    return output.to(dtype) if isinstance(output, Tensor) else [part.to(dtype) for part in output]
