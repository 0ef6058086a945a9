"""What a training step sees: photographs of the classes, and where wanted pictures that the base made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from skinaug.finetune.cache import seen
from skinaug.finetune.latents import Batch, captioned_batch, drawn
from skinaug.finetune.masks import open_mask
from skinaug.finetune.moments import Moments
from skinaug.finetune.text import Caption
from skinaug.manifest import Manifest


@dataclass(frozen=True)
class Photographs:
    """Encoded images with captions. image_size: pixels of the squares. masks: whether batches tell where the lesions are.
    sizes: int64 [N, 3], original height and width, and the square's side."""

    moments: Moments
    manifest: Manifest
    caption: Caption
    image_size: int
    masks: bool = False
    labels: Sequence[int] = field(init=False)
    sizes: Tensor = field(init=False)

    def __post_init__(self) -> None:
        original = torch.from_numpy(self.manifest.table.select("height", "width").to_numpy().copy()).long()
        side = torch.full((len(original), 1), self.image_size)
        object.__setattr__(self, "labels", self.manifest.labels())
        object.__setattr__(self, "sizes", torch.cat([original, side], 1))

    def batch(self, number: int, batch_size: int, caption_dropout: float, seed: int) -> Batch:
        """Batch `number`: see `training_batch`."""
        batch = captioned_batch(
            number, self.moments, self.labels, self.caption, batch_size, caption_dropout, seed
        )
        rows, views = batch.pop("rows"), batch.pop("views")
        if self.masks:
            batch["lesions"] = self.cover(rows, views, batch["moments"].shape[-1])
        return {**batch, "sizes": self.sizes[rows], "weights": torch.full((batch_size,), 1 / batch_size)}

    def captions(self, number: int, batch_size: int, caption_dropout: float, seed: int) -> list[str]:
        """Those of batch `number`."""
        views = self.moments.views
        return drawn(number, views, self.labels, self.caption, batch_size, caption_dropout, seed)[2]

    def cover(self, rows: np.ndarray, views: np.ndarray, side: int) -> Tensor:
        """Share of each place that lesions cover, by the mask of each view: float32 [B, 1, side, side] in [0, 1]."""
        masks = [self.mask(int(row), int(view)) for row, view in zip(rows, views, strict=True)]
        covered = torch.from_numpy(np.stack(masks)).float().mean(-1)[:, None] / 255
        return functional.adaptive_avg_pool2d(covered, side)

    def mask(self, row: int, view: int) -> np.ndarray:
        """The lesions' mask in a view: uint8 [S, S, 3]."""
        image = open_mask(self.manifest, row)
        return seen(image, self.image_size, self.moments.digests[row], *self.moments.which(view))


def training_batch(
    number: int,
    shown: Photographs,
    prior: Photographs | None,
    prior_weight: float,
    batch_size: int,
    caption_dropout: float,
    seed: int,
) -> Batch:
    """Batch `number`: moments [B, 2, C, h, w], captions (B texts), sizes int64 [B, 3], loss weights [B], and where masks are
    read lesions [B, 1, h, w], the share of each place that they cover.

    The weights of the photographs sum to 1. With a prior, as many of its pictures follow; theirs sum to `prior_weight`.
    """
    batch = shown.batch(number, batch_size, caption_dropout, seed)
    if prior is None:
        return batch
    other = prior.batch(number, batch_size, caption_dropout, seed + 1)
    return {
        "number": number,
        "moments": torch.cat([batch["moments"], other["moments"]]),
        "captions": batch["captions"] + other["captions"],
        "sizes": torch.cat([batch["sizes"], other["sizes"]]),
        "weights": torch.cat([batch["weights"], prior_weight * other["weights"]]),
    }


def training_captions(
    number: int,
    shown: Photographs,
    prior: Photographs | None,
    batch_size: int,
    caption_dropout: float,
    seed: int,
    **_: object,
) -> list[str]:
    """The captions of `training_batch`, of the same arguments."""
    captions = shown.captions(number, batch_size, caption_dropout, seed)
    if prior is not None:
        captions += prior.captions(number, batch_size, caption_dropout, seed + 1)
    return captions
