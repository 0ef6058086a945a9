"""Near-copies of held-out photographs among the training photographs: what a split by patient alone would not see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from skinaug.images import load_pixels
from skinaug.leaks.lineage import COPIES
from skinaug.manifest import Manifest
from skinaug.metrics.hashes import match_blocks
from skinaug.metrics.near_copies import Views, confirmed_pairs

if TYPE_CHECKING:
    import torch
    from torch import nn


def find_held_out_copies(
    backbone: Callable[..., nn.Module],
    image_size: int,
    max_hamming: int = 10,
    min_cosine: float = 0.95,
    *,
    manifest: Manifest,
    hashes: pl.DataFrame,
    cache: Path | None,
    device: Callable[[], torch.device],
    out: Path,
) -> None:
    """Write copies.parquet: pairs of a training and a validation or test photograph that are one picture.

    Candidates differ in few bits of their perceptual hashes, mirrored or not; the features of a pretrained network confirm
    them. The file's columns: image_id (training), other_id, other_split, hamming, cosine.

    Args:
        backbone: makes a pretrained network from `num_classes=0`.
        image_size: pixels a side at which it sees the pictures.
        max_hamming: bits of 64 in which a pair differs at most.
        min_cosine: of the features, in [-1, 1].
        manifest: the data set with all splits.
        hashes: image_id, `phash` and `mirrored` of every image (`metrics.hashes.perceptual_hashes`).
        cache: file of what was computed of each picture (`blobs`).
        device: tells where the network runs.
        out: receives the file.
    """
    table = manifest.table.join(hashes, on="image_id", how="left", maintain_order="left", validate="1:1")
    train, held_out = (
        table.filter(condition) for condition in (pl.col("split") == "train", pl.col("split") != "train")
    )
    one, other, turned = (
        part.to_numpy() for part in (train["phash"], held_out["phash"], held_out["mirrored"])
    )
    pairs, distances, cosine = confirmed_pairs(
        lambda: match_blocks(one, other, turned, max_hamming),
        lambda rows, others: views(
            manifest,
            train["image_id"][rows],
            held_out["image_id"][others],
            backbone,
            image_size,
            cache,
            device,
        ),
        min_cosine,
    )
    copied, copy = train[pairs[:, 0]], held_out[pairs[:, 1]]
    found = pl.DataFrame(
        {
            "image_id": copied["image_id"],
            "other_id": copy["image_id"],
            "other_split": copy["split"],
            "hamming": distances,
            "cosine": cosine,
        }
    )
    found.write_parquet(out / COPIES)


def views(
    manifest: Manifest,
    left: pl.Series,
    right: pl.Series,
    backbone: Callable[..., nn.Module],
    size: int,
    cache: Path | None,
    device: Callable[[], torch.device],
) -> Views:
    """Features of pictures named on the left with those of pictures on the right as they are, and with those mirrored."""
    from skinaug.metrics.features import (
        embed_pixels,  # torch and timm load here, not for a set without candidates
    )

    network = backbone(num_classes=0).eval().to(device())
    candidates = manifest.where(pl.col("image_id").is_in([*left, *right]))
    pixels = load_pixels(candidates, size, cache)
    turned = np.ascontiguousarray(pixels[:, :, ::-1])
    straight, mirrored = (embed_pixels(some, network) for some in (pixels, turned))
    place = {name: row for row, name in enumerate(candidates.table["image_id"])}
    rows, others = ([place[name] for name in names] for names in (left, right))
    one = straight[rows]
    return [(one, straight[others]), (one, mirrored[others])]
