"""What a way of fine-tuning is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from diffusers import DiffusionPipeline
from torch import nn


class FinetuneMethod(Protocol):
    """What of a pipeline learns, and how it is saved."""

    @property
    def changes_base(self) -> bool:
        """Whether the base's own weights learn, so that the whole pipeline is saved."""

    def phrases(self, classes: Sequence[str]) -> dict[str, str]:
        """What stands for each class in captions and prompts; a class that is not named keeps the prompts' own words."""

    def prepare(
        self, pipeline: DiffusionPipeline, classes: Sequence[str], seed: int
    ) -> Sequence[nn.Parameter]:
        """Change the pipeline in place; returns the parameters that learn."""

    def save(self, pipeline: DiffusionPipeline, classes: Sequence[str], out: Path) -> None:
        """Write what was learned as files that diffusers reads, below `out`."""
