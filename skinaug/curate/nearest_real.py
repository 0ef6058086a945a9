"""For each picture of a pool the real training photograph that it resembles most, and the one that it was made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import torch
from torch import nn

from skinaug.manifest import Manifest
from skinaug.metrics.features import embed
from skinaug.metrics.neighbours import nearest


def made_from(pool: Manifest, real: Manifest) -> pl.DataFrame:
    """The photograph that each picture was made from, and where it was drawn into it.

    Returns:
        One row a picture, in the pool's order: image_id, `parent` and `mask`, absolute paths; null where there is none, or where the
        photograph is not among `real`.
    """
    photographs = {name: str(path) for name, path in zip(real.table["image_id"], real.paths(), strict=True)}
    table, nobody = pool.table, pl.Series([None] * len(pool), dtype=pl.String)
    parents = table["parents"].cast(pl.List(pl.String)) if "parents" in table.columns else None
    masks = table["mask"] if "mask" in table.columns else nobody
    return pl.DataFrame(
        {
            "image_id": table["image_id"],
            "parent": nobody if parents is None else [photographs.get(name) for name in parents.list.first()],
            "mask": [None if mask is None else str(pool.root.absolute() / mask) for mask in masks],
        },
        schema_overrides={"parent": pl.String, "mask": pl.String},
    )


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
