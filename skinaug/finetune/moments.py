"""Encoded images on disk: what the autoencoder says of each view of each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skinaug.finetune.entries import read


@dataclass(frozen=True)
class Moments:
    """Mean and deviation of q(z|x) for several views of each picture, on disk; see `cache.encode_moments`.

    A view's number is `crop * sides + mirrored`, where there are two sides with mirror images and else one.

    Attributes:
        folder: of one network, precision and size.
        digests: each picture's SHA-256, in the manifest's order.
        crops: of a picture; mirror: whether there is the mirror image of each crop too.
    """

    folder: Path
    digests: Sequence[str]
    crops: int
    mirror: bool

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def views(self) -> int:
        """Number of views of each picture."""
        return self.crops * (1 + self.mirror)

    def take(self, rows: np.ndarray, views: np.ndarray) -> Tensor:
        """One view of each of B pictures: float32 [B, 2 (mean, deviation), C, S/f, S/f] in the VAE's own units."""
        paths = [self.path(int(row), int(view)) for row, view in zip(rows, views, strict=True)]
        return torch.stack([read(path)["moments"] for path in paths]).float()

    def which(self, view: int) -> tuple[int, bool]:
        """The crop that a view shows, and whether mirrored."""
        crop, mirrored = divmod(view, 1 + self.mirror)
        return crop, bool(mirrored)

    def path(self, row: int, view: int) -> Path:
        """File of a picture's view. Its name does not depend on how many crops and sides there are."""
        crop, mirrored = self.which(view)
        digest = self.digests[row]
        return self.folder / digest[:2] / f"{digest}.{crop}{'m' if mirrored else ''}.safetensors"
