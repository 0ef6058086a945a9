"""What the tests of every family must know of its tiny random pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusers import DiffusionPipeline
from torch import Tensor


@dataclass(frozen=True)
class Tiny:
    """A family's row.

    Attributes:
        make: the pipeline, of random weights.
        size: pixels of a picture's side.
        guidance: weight that skinaug is asked for; plain: arguments that ask diffusers for the same.
        reading: arguments without which diffusers would read texts otherwise, or draw other sizes.
        scheduler: as settings name it.
        taught: whether training is tested with it; not of bases that differ from another in how they are guided alone.
        latents: makes [B, C, h, w] of the noise that the pipeline draws.
    """

    make: Callable[[], DiffusionPipeline]
    size: int
    guidance: float = 1.0
    plain: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    scheduler: str = "flow"
    taught: bool = True
    latents: Callable[[Tensor], Tensor] = lambda noise: noise
