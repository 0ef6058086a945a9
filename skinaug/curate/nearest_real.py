"""For each picture of a pool the real training photograph that it resembles most."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import torch
from torch import nn

from skinaug.manifest import Manifest
from skinaug.metrics.features import embed
from skinaug.metrics.neighbours import nearest


def nearest_real(
    pool: Manifest,
    real: Manifest,
    backbone: Callable[..., nn.Module],
    image_size: int,
    batch_size: int = 64,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
) -> pl.DataFrame:
    """By cosine similarity of a pretrained network's features.

    Args:
        pool: the synthetic pictures.
        real: real photographs of the train split.
        backbone: makes the network from `num_classes=0`.
        image_size: pixels a side at which the network sees them.
        batch_size: images a forward pass.
        cache: the store's file of what was computed before.
        device: where the network runs.

    Returns:
        One row a picture, in the pool's order: image_id, nearest (the photograph's absolute path), nearest_label and
        similarity in [-1, 1].
    """
    queries, references = (
        embed(images, backbone, image_size, batch_size, cache, device) for images in (pool, real)
    )
    similarities, rows = nearest(queries, references, 1)
    paths, labels = real.paths(), real.table["label"]
    return pl.DataFrame(
        {
            "image_id": pool.table["image_id"],
            "nearest": [str(paths[row]) for row in rows[:, 0]],
            "nearest_label": [labels[int(row)] for row in rows[:, 0]],
            "similarity": similarities[:, 0],
        }
    )
