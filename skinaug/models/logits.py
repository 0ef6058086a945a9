"""Networks that were not made for this pipeline, seen as those that were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from skinaug.errors import InputError
from skinaug.manifest import Manifest


class Logits(nn.Module):
    """A network's logits, whether it gives them bare or as `logits` of an object. pretrained_cfg: as timm's networks have it."""

    def __init__(self, network: nn.Module, pretrained_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.pretrained_cfg = network, dict(pretrained_cfg)

    def forward(self, images: Tensor) -> Tensor:
        given = self.network(images)
        return given.logits if hasattr(given, "logits") else given


class LinearHead(nn.Module):
    """A linear layer on vectors of `num_features` numbers, under the names that timm's networks have for their last one."""

    num_features: int

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.head: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


class EncoderLogits(LinearHead):
    """An image encoder's vectors and a linear layer on them.

    Args:
        encoder: float32 [B, 3, S, S] -> [B, D], or a tuple that begins so.
        num_features: D.
        num_classes: of the linear layer, which starts untrained; 0: the vectors themselves.
        image_size: S. Pictures of another size are scaled to it, as the encoder was never shown any.
        pretrained_cfg: as timm's networks have it.
        config: what decides the vectors besides the tensors.
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_features: int,
        num_classes: int,
        image_size: int,
        pretrained_cfg: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.encoder, self.num_features, self.image_size = encoder, num_features, image_size
        self.pretrained_cfg, self.config = dict(pretrained_cfg), dict(config)
        self.reset_classifier(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = nn.functional.interpolate(images, size, mode="bicubic", antialias=True)
        vectors = self.encoder(images)
        return self.head(vectors[0] if isinstance(vectors, tuple) else vectors)


class GivenFeatures(LinearHead):
    """Features that were computed elsewhere and a linear layer on them.

    Args:
        look_up: the images of a manifest -> float32 [N, D], in its order.
        num_features: D.
        num_classes: of the linear layer, which starts untrained; 0: the features themselves.
    """

    def __init__(
        self, look_up: Callable[[Manifest], np.ndarray], num_features: int, num_classes: int
    ) -> None:
        super().__init__()
        self.look_up, self.num_features = look_up, num_features
        self.reset_classifier(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        raise InputError(
            "Features of a file are those of images that it names, and here pictures are to be looked at: choose a network."
        )
