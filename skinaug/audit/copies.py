"""Near-copies of held-out photographs among the training photographs: what a split by patient alone would not see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from sklearn.preprocessing import normalize

from skinaug.images import load_pixels
from skinaug.leaks.lineage import COPIES
from skinaug.manifest import Manifest
from skinaug.metrics.copies import cosines
from skinaug.metrics.hashes import hamming_matches

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
    train, held_out = table.filter(pl.col("split") == "train"), table.filter(pl.col("split") != "train")
    found = [_candidates(train, held_out, max_hamming, strictly=embed is not None or min_cosine is None)]
    if validation:
        val, test = (held_out.filter(pl.col("split") == split) for split in ("val", "test"))
        found.append(_candidates(val, test, max_hamming, strictly=embed is not None or min_cosine is None))
    pairs = pl.concat(found)
    if min_cosine is None:
        cosine = np.full(len(pairs), np.nan)
    elif embed is not None:
        cosine = cosines(manifest, pairs.select("place", "other_place").to_numpy(), embed)
    elif len(pairs):
        cosine = alike(manifest, pairs["image_id"], pairs["other_id"], backbone, image_size, cache, device)
    else:
        cosine = np.empty(0)
    pairs = pairs.drop("place", "other_place").with_columns(cosine=pl.Series(cosine, dtype=pl.Float64))
    if min_cosine is not None:
        pairs = pairs.filter(pl.col("cosine") >= min_cosine)
    pairs.write_parquet(out / COPIES)


def _candidates(images: pl.DataFrame, others: pl.DataFrame, max_hamming: int, strictly: bool) -> pl.DataFrame:
    """Pairs whose hashes are near: image_id, place, other_id, other_place, other_split, hamming.

    strictly: only those that are near from both sides. The data set's search compares a picture with the mirror image of the
    other from one side alone, whichever row comes first: it has surely seen these.
    """
    one, turned_one = (images[name].to_numpy() for name in ("phash", "mirrored"))
    other, turned = (others[name].to_numpy() for name in ("phash", "mirrored"))
    pairs, distances = hamming_matches(one, other, turned, max_hamming)
    left, right = pairs.T
    if strictly:
        back = np.minimum(*(np.bitwise_count(side[left] ^ other[right]) for side in (one, turned_one)))
        distances = np.maximum(distances, back)
    found = (
        images[left]
        .select("image_id", "place")
        .with_columns(
            others[right].select(other_id="image_id", other_place="place", other_split="split"),
            hamming=pl.Series(distances, dtype=pl.Int64),
        )
    )
    return found.filter(pl.col("hamming") <= max_hamming)


def alike(
    manifest: Manifest,
    left: pl.Series,
    right: pl.Series,
    backbone: Callable[..., nn.Module],
    size: int,
    cache: Path | None,
    device: Callable[[], torch.device],
) -> np.ndarray:
    """Cosine of the features of each picture and its partner, as it is or mirrored, whichever is the larger: float [P]."""
    from skinaug.metrics.features import (
        embed_pixels,  # torch and timm load here, not for a set without candidates
    )

    network = backbone(num_classes=0).eval().to(device())
    candidates = manifest.where(pl.col("image_id").is_in([*left, *right]))
    pixels = load_pixels(candidates, size, cache)
    turned = np.ascontiguousarray(pixels[:, :, ::-1])
    straight, mirrored = (normalize(embed_pixels(some, network)) for some in (pixels, turned))
    place = {name: row for row, name in enumerate(candidates.table["image_id"])}
    one, other = ([place[name] for name in names] for names in (left, right))
    return np.maximum(
        *(np.einsum("pd,pd->p", straight[one], partner[other]) for partner in (straight, mirrored))
    )
