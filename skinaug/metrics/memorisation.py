"""Is a synthetic image a copy of a training photograph? Judged against how alike photographs of different patients are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import nn

from skinaug.images import load_pixels
from skinaug.manifest import Manifest
from skinaug.metrics.colour import lab
from skinaug.metrics.features import embed
from skinaug.metrics.neighbours import nearest, nearest_of_other_groups

AROUND = 50  # photographs that tell how dense the surroundings are (Carlini et al. 2023 take 50)
COLOURS_PX = 8  # of the colour thumbnail


def memorisation(
    pool: Manifest,
    real: Manifest,
    backbone: str | Callable[..., nn.Module],
    size: int,
    batch_size: int = 64,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """How near each image comes to a training photograph, in a network's features and in its colours.

    The distance to the nearest photograph over the mean distance to the 50 nearest (Carlini et al. 2023, arXiv 2301.13188,
    section 4.2) is small for a copy, and not for an image that merely is typical. Features see through mirroring and
    cropping, an 8 x 8 colour thumbnail through blur and noise. What is small is told by the photographs themselves, each
    compared with those of other patients.

    Args:
        pool: M images.
        real: N training photographs; `group_id` is the patient.
        backbone, size, batch_size, cache, device: as in `features.embed`.

    Returns:
        For the pool, one row an image: image_id, `nearest` (image_id of the photograph), `similarity` (cosine of the
        features), `ratio` (the more unusual of the two) and `copy_p`, the share in [0, 1] of photographs that lie as near to
        one of another patient: the smaller of the two shares, doubled. And for the photographs themselves: image_id and
        `copy_p`, the baseline: under `copy_p <= 0.01` falls 1 % of them at most.
    """

    def features(images: Manifest) -> np.ndarray:
        return embed(images, backbone, size, batch_size, cache, device)

    def colours(images: Manifest) -> np.ndarray:
        return colour_thumbnails(load_pixels(images, size, cache))

    patients = real.table["group_id"].to_numpy()
    found = [copies(describe(pool), describe(real), patients) for describe in (features, colours)]
    by_features, by_colours = found
    nearer = by_colours["tail"] < by_features["tail"]
    rows = np.where(nearer, by_colours["row"], by_features["row"])
    of_pool = pl.DataFrame(
        {
            "image_id": pool.table["image_id"],
            "nearest": real.table["image_id"].gather(rows),
            "similarity": by_features["similarity"],
            "ratio": np.where(nearer, by_colours["ratio"], by_features["ratio"]),
            "copy_p": either(by_features["tail"], by_colours["tail"]),
        }
    )
    baseline = either(by_features["real_tail"], by_colours["real_tail"])
    return of_pool, pl.DataFrame({"image_id": real.table["image_id"], "copy_p": baseline})


def either(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The share for the more unusual of two measures, corrected for there being two (Bonferroni)."""
    return np.minimum(1, 2 * np.minimum(one, other))


def copies(pool: np.ndarray, real: np.ndarray, patients: np.ndarray) -> dict[str, np.ndarray]:
    """The nearest real vector of each vector of the pool, and how unusual it is for vectors of other patients to lie as near.

    Args:
        pool: float [M, D].
        real: float [N, D].
        patients: of the real vectors, [N].

    Returns:
        [M] each: `row` (of the nearest), `similarity` (cosine), `ratio` (distance to the nearest over the mean distance to
        the `AROUND` nearest, or to as many as other patients have) and `tail`, the share of real vectors whose ratio to
        other patients' is not larger; and `real_tail`, the same of the real vectors among themselves, [N].
    """
    _, sizes = np.unique(patients, return_counts=True)
    around = min(AROUND, len(real) - int(sizes.max()))
    similarities, rows = nearest(pool, real, around)
    expected = distance_ratio(nearest_of_other_groups(real, patients, around))
    ratio = distance_ratio(similarities)
    tail, real_tail = (
        np.searchsorted(np.sort(expected), r, side="right") / len(expected) for r in (ratio, expected)
    )
    return {
        "row": rows[:, 0], "similarity": similarities[:, 0], "ratio": ratio, "tail": tail, "real_tail": real_tail
    }  # fmt: skip


def distance_ratio(similarities: np.ndarray) -> np.ndarray:
    """Distance to the nearest over the mean distance to all: cosines [M, K], most similar first, to float [M]."""
    distances = np.sqrt(np.maximum(2 - 2 * similarities, 0))
    mean = distances.mean(1)
    return np.divide(distances[:, 0], mean, out=np.ones(len(mean)), where=mean > 0)


def colour_thumbnails(pixels: np.ndarray) -> np.ndarray:
    """Where a picture is lighter, redder or yellower than its own mean: uint8 [N, H, W, 3] to float32 [N, 192]."""
    small = [
        np.asarray(Image.fromarray(picture).resize((COLOURS_PX, COLOURS_PX), Image.Resampling.BOX))
        for picture in pixels
    ]
    colours = lab(np.stack(small) / 255) if len(small) else np.empty((0, COLOURS_PX, COLOURS_PX, 3))
    return (colours - colours.mean((1, 2), keepdims=True)).reshape(len(small), -1).astype(np.float32)
