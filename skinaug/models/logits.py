"""Networks that were not made for this pipeline, seen as those that were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Logits(nn.Module):
    """A network's logits, whether it gives them bare or as `logits` of an object. pretrained_cfg: as timm's networks have it."""

    def __init__(self, network: nn.Module, pretrained_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.pretrained_cfg = network, dict(pretrained_cfg)

    def forward(self, images: Tensor) -> Tensor:
        given = self.network(images)
        return given.logits if hasattr(given, "logits") else given
