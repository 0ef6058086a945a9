"""Full fine-tuning: every weight of the denoiser learns; classes keep their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from skinaug.finetune.export import save_pipeline
from skinaug.finetune.suits import check_method
from skinaug.models.families.family import FULL
from skinaug.models.families.table import denoiser, family_of
from skinaug.models.text_length import text_encoders


@dataclass(frozen=True)
class Full:
    """The denoiser's weights.

    Attributes:
        text_encoder: whether the text encoders learn as well.
    """

    text_encoder: bool = False

    @property
    def changes_base(self) -> bool:
        """Whether the base\'s own weights learn, so that the whole pipeline is saved."""
        return True

    def phrases(self, classes: Sequence[str]) -> dict[str, str]:
        """Classes keep the words that the prompts have for them."""
        return {}

    def prepare(self, pipeline: Any, classes: Sequence[str], seed: int) -> list[nn.Parameter]:
        """All of the networks' parameters."""
        check_method(FULL, family_of(pipeline))
        networks = [denoiser(pipeline)]
        if self.text_encoder:
            networks += [network for _, network, _ in text_encoders(pipeline)]
        return [parameter for network in networks for parameter in network.parameters()]

    def save(self, pipeline: Any, classes: Sequence[str], out: Path) -> None:
        """Write out/pipeline, complete, as float16 safetensors."""
        save_pipeline(pipeline, out / "pipeline")
