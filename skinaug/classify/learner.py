"""What learns to classify, and from what: a whole network from pictures, or a linear head from a frozen network's features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from skinaug.classify.data import (
    AugmentedPictures,
    DrawnVectors,
    Mixing,
    Pictures,
    Vectors,
    make_transform,
)
from skinaug.classify.loss import targets
from skinaug.classify.probe import Standardised, frozen_features, untrained_head
from skinaug.images import load_pixels
from skinaug.manifest import Manifest


@dataclass(frozen=True)
class Learner:
    """What learns, and what it is shown.

    Attributes:
        network: what learns: the given network, or a linear layer in the place of its last one.
        drawn: training images, or their features, as items (draw, row).
        inputs: a manifest's pictures, or their features, for validation and prediction.
        finish: puts what was learned into the network that was given.
    """

    network: nn.Module
    drawn: AugmentedPictures | DrawnVectors
    inputs: Callable[[Manifest], Pictures | Vectors]
    finish: Callable[[], None]


def whole_network(
    network: nn.Module,
    image_size: int,
    train: Manifest,
    cache: Path | None,
    augmentation: Mapping[str, Any] | None,
    mixing: Mixing | None,
    seed: int,
) -> Learner:
    """All of a network, from augmented pictures.

    Args:
        network, image_size, train, cache, augmentation, seed: as in `fit.fit_classifier`.
        mixing: of a batch's pictures, as `data.make_mixing` makes it.
    """
    transform = _transform(network, image_size, augmentation)
    pixels = load_pixels(train, image_size, cache)
    drawn = AugmentedPictures(pixels, targets(train), transform, seed, mixing)
    return Learner(network, drawn, partial(pictures, network, image_size, cache), lambda: None)


def linear_head(
    network: nn.Module, image_size: int, train: Manifest, cache: Path | None, device: torch.device
) -> Learner:
    """A linear probe: a new last layer for a network that stays as it is. Arguments are those of `probe.frozen_features`."""
    frozen, vectors = frozen_features(network, image_size, train, cache, device)
    head = untrained_head(network)
    drawn = DrawnVectors(vectors, targets(train))
    return Learner(head, drawn, partial(_vectors, frozen), partial(frozen.put_head, head, network))


def freeze_statistics(network: nn.Module) -> None:
    """Make batch normalisation use its pretrained means and deviations in training too; scale and shift still learn.

    Layers whose statistics are still those of a fresh network go on collecting them.
    """
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            layer.train(
                not layer.running_mean.any()
            )  # Lightning leaves a module in the mode in which it finds it


def _vectors(frozen: Standardised, images: Manifest) -> Vectors:
    return Vectors(frozen(images), images.labels())


def pictures(network: nn.Module, image_size: int, cache: Path | None, images: Manifest) -> Pictures:
    return Pictures(load_pixels(images, image_size, cache), images.labels(), _transform(network, image_size))


def _transform(network: nn.Module, image_size: int, augmentation: Mapping[str, Any] | None = None) -> Any:
    return make_transform(image_size, getattr(network, "pretrained_cfg", {}), augmentation)
