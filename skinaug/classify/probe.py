"""A linear probe: features of a frozen network, computed once a picture, and a linear layer that learns on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.metrics.features import embed

Embed = Callable[[Manifest], np.ndarray]  # float32 [N, D]


@dataclass(frozen=True)
class Standardised:
    """A frozen network's features, standardised by the mean and deviation of the images that are trained on.

    Real and synthetic images, of training, validation and test, are all standardised by the same figures, which come from the
    training images alone.

    Attributes:
        embed: a manifest's pictures -> features, float32 [N, D].
        mean, deviation: float32 [D].
    """

    embed: Embed
    mean: Tensor
    deviation: Tensor

    def __call__(self, images: Manifest) -> Tensor:
        """float32 [N, D]."""
        return self.standardise(self.embed(images))

    def standardise(self, features: np.ndarray) -> Tensor:
        """float32 [N, D] to the same."""
        return (torch.from_numpy(features) - self.mean) / self.deviation

    def put_head(self, head: nn.Module, network: nn.Module) -> None:
        """Give the network, whose last layer is linear, the logits that `head` makes of standardised features."""
        own = network.get_classifier()  # type: ignore[operator]
        given = {name: tensor.cpu() for name, tensor in head.state_dict().items()}
        weight = given["weight"] / self.deviation
        own.load_state_dict({"weight": weight, "bias": given["bias"] - weight @ self.mean})


def untrained_head(network: nn.Module) -> nn.Linear:
    """A linear layer in the place of the network's own last one. It starts at zero: logits know nothing yet."""
    own = network.get_classifier()  # type: ignore[operator]
    head = nn.Linear(own.in_features, own.out_features)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def frozen_body(network: nn.Module, image_size: int, cache: Path | None, device: torch.device) -> Embed:
    """What a network's last layer is given. Arguments are those of `frozen_features`."""
    body = deepcopy(network)
    body.reset_classifier(0)  # type: ignore[operator]
    return lambda images: embed(images, lambda num_classes: body, image_size, cache=cache, device=device)


def frozen_features(
    network: nn.Module, image_size: int, train: Manifest, cache: Path | None, device: torch.device
) -> tuple[Standardised, Tensor]:
    """The features that a network's last layer is given, standardised by those of `train`; constant ones are only centred.
    And those of `train`, float32 [N, D], which are computed for it anyway.

    Args:
        network: a timm network, prepared for `image_size`; it is not changed.
        image_size: pixels a side.
        train: the training images.
        cache: file of what was computed of each picture.
        device: where the network runs.

    Raises:
        InputError: the network does not end in a linear layer.
    """
    if not hasattr(network, "get_classifier") or not isinstance(network.get_classifier(), nn.Linear):
        name = getattr(network, "pretrained_cfg", {}).get("architecture", type(network).__name__)
        raise InputError(
            f"The backbone {name} does not end in a linear layer that timm knows, so it has no linear probe: set classify.learns=network, or "
            "take another backbone."
        )
    features = frozen_body(network, image_size, cache, device)
    found = features(train)
    spread = found.std(0)
    deviation = np.where(spread > 1e-6, spread, 1).astype(np.float32)
    frozen = Standardised(features, torch.from_numpy(found.mean(0)), torch.from_numpy(deviation))
    return frozen, frozen.standardise(found)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: those of a linear layer on a few vectors only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
