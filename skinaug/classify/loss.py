"""What a classifier is trained to lower, and how much classes count in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from skinaug.classify.data import row_masses
from skinaug.manifest import Manifest


class ClassificationLoss(nn.Module):
    """Cross-entropy of weighted, possibly mixed targets.

    A target is a row of C numbers: how much of each class an image is, times the image's loss weight, so that an image of
    weight 2 counts like two. With one class an image and no focus it is `torch.nn.CrossEntropyLoss`, smoothing and the
    division by the batch's sum of weights included.

    Args:
        class_weights: float [C]; None: all 1.
        label_smoothing: share of a target that is spread evenly over all classes, in [0, 1).
        focal_gamma: each class's term is multiplied by (1 - p)^gamma, at least 0; 0 is cross-entropy. Lin et al. 2017
            (arXiv 1708.02002), equation 4.
    """

    def __init__(
        self, class_weights: Tensor | None = None, label_smoothing: float = 0.0, focal_gamma: float = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.label_smoothing, self.focal_gamma = label_smoothing, focal_gamma

    def forward(
        self, logits: Tensor, targets: Tensor, mean: Callable[[Tensor], Tensor] = lambda total: total
    ) -> Tensor:
        """Scalar from logits [B, C] and targets float [B, C].

        mean: of a scalar over the devices that share a batch; then the devices' losses have the mean that is the batch's.
        """
        logs = logits.float().log_softmax(1)
        weights = torch.ones_like(logs[0]) if self.class_weights is None else self.class_weights
        spread = targets.sum(1, keepdim=True) / targets.shape[1]
        smoothed = torch.lerp(targets, spread.expand_as(targets), self.label_smoothing)
        terms = -smoothed * weights * logs
        if self.focal_gamma:
            terms = terms * (1 - logs.exp()) ** self.focal_gamma
        return terms.sum() / mean((targets * weights).sum())


def targets(images: Manifest) -> Tensor:
    """What the loss is given of each image: its class's place in a row of zeros holds its loss weight; float32 [N, C]."""
    rows = torch.zeros(len(images), len(images.classes))
    weights = images.table["loss_weight"].to_numpy() if "loss_weight" in images.table.columns else np.ones(1)
    rows[torch.arange(len(images)), images.labels()] = torch.tensor(weights, dtype=torch.float32)
    return rows


def class_weights(images: Manifest, kind: str | None, beta: float = 0.999) -> Tensor | None:
    """Loss weights of the classes: float32 [C]; absent classes, which no loss can hit, get 0.

    "balanced": N / (C n_c). "effective_number": in proportion to (1 - beta) / (1 - beta^n_c), with a mean of 1 over the
    images (Cui et al. 2019, arXiv 1901.05555, equation 2), between no weights (beta 0) and balanced ones (beta near 1). None:
    no weights. n_c counts an image by `data.row_masses`: as often as it is drawn, and as much as it weighs; the mean image
    counts 1.
    """
    if kind is None:
        return None
    masses = row_masses(images.table)
    counts = np.bincount(images.labels(), masses * (len(masses) / masses.sum()), len(images.classes))
    numbers = counts if kind == "balanced" else (1 - beta**counts) / (1 - beta)
    inverse = np.divide(1.0, numbers, out=np.zeros(len(numbers)), where=numbers > 0)
    scale = 1 / len(counts) if kind == "balanced" else 1 / (inverse * counts).sum()
    return torch.tensor(counts.sum() * scale * inverse, dtype=torch.float32)
