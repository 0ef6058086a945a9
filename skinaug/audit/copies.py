"""Near-copies of held-out photographs among the training photographs: what a split by patient alone would not see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from skinaug.images import load_pixels
from skinaug.leaks.lineage import COPIES
from skinaug.manifest import Manifest
from skinaug.metrics.hashes import gathered, match_blocks
from skinaug.metrics.near_copies import Block, Views, confirmed_pairs, embedded

if TYPE_CHECKING:
    import torch
    from torch import nn


def find_held_out_copies(
    backbone: Callable[..., nn.Module],
    image_size: int,
    max_hamming: int = 10,
    min_cosine: float | None = 0.95,
    embed: Callable[[Manifest], np.ndarray] | None = None,
    *,
    manifest: Manifest,
    hashes: pl.DataFrame,
    cache: Path | None,
    device: Callable[[], torch.device],
    out: Path,
    validation: bool = False,
) -> None:
    """Write copies.parquet: pairs of a training and a validation or test photograph that are one picture.

    Candidates differ in few bits of their perceptual hashes, mirrored or not; the features of a pretrained network confirm
    them. The file's columns: image_id (training), other_id, other_split, hamming, cosine.

    Args:
        backbone: makes a pretrained network from `num_classes=0`.
        image_size: pixels a side at which it sees the pictures.
        max_hamming: bits of 64 in which a pair differs at most.
        min_cosine: of the features, in [-1, 1]; None: the hashes alone decide.
        embed: gives the features, as the data set looks for its near-copies, in the place of `backbone` and `image_size`.
        manifest: the data set with all splits.
        hashes: image_id, `phash` and `mirrored` of every image (`metrics.hashes.perceptual_hashes`).
        cache: file of what was computed of each picture (`blobs`).
        device: tells where the network runs.
        out: receives the file.
        validation: pairs of a validation (image_id) and a test photograph too: checkpoints are chosen on the one.
    """
    table = manifest.table.join(hashes, on="image_id", how="left", maintain_order="left", validate="1:1")
    table = table.with_row_index("place")
    train, val, test = (table.filter(pl.col("split") == split) for split in ("train", "val", "test"))
    sides = [(train, pl.concat([val, test]))] + ([(val, test)] if validation else [])
    strictly = embed is not None or min_cosine is None

    def features(images: pl.DataFrame, others: pl.DataFrame, rows: np.ndarray, columns: np.ndarray) -> Views:
        one, other = images[rows], others[columns]
        if embed is not None:
            return embedded(manifest, embed, one["place"].to_numpy(), other["place"].to_numpy())
        return views(manifest, one["image_id"], other["image_id"], backbone, image_size, cache, device)

    found = []
    for images, others in sides:
        blocks = partial(_candidates, images, others, max_hamming, strictly)
        if min_cosine is None:
            pairs, distances = gathered(blocks())
            cosine = np.full(len(pairs), np.nan)
        else:
            pairs, distances, cosine = confirmed_pairs(blocks, partial(features, images, others), min_cosine)
        copied, copy = images[pairs[:, 0]], others[pairs[:, 1]]
        found.append(
            pl.DataFrame(
                {
                    "image_id": copied["image_id"],
                    "other_id": copy["image_id"],
                    "other_split": copy["split"],
                    "hamming": distances,
                    "cosine": cosine,
                }
            )
        )
    pl.concat(found).write_parquet(out / COPIES)


def _candidates(
    images: pl.DataFrame, others: pl.DataFrame, max_hamming: int, strictly: bool
) -> Iterator[Block]:
    """Pairs of rows whose hashes are near, and their distances.

    strictly: only those that are near from both sides. The data set's search compares a picture with the mirror image of the
    other from one side alone, whichever row comes first: it has surely seen these.
    """
    one, turned_one = (images[name].to_numpy() for name in ("phash", "mirrored"))
    other, turned = (others[name].to_numpy() for name in ("phash", "mirrored"))
    for pairs, distances in match_blocks(one, other, turned, max_hamming):
        if strictly:
            left, right = pairs.T
            back = np.minimum(*(np.bitwise_count(side[left] ^ other[right]) for side in (one, turned_one)))
            distances = np.maximum(distances, back)
        near = distances <= max_hamming
        yield pairs[near], distances[near]


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
