"""Images to vectors: the pooled features of a pretrained network, and what sets of them must be to be compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor, nn

from skinaug.errors import InputError
from skinaug.images import DECODING, load_pixels
from skinaug.manifest import Manifest
from skinaug.models.backbone import create_backbone, make_network
from skinaug.models.digest import module_digest
from skinaug.models.logits import GivenFeatures
from skinaug.store.blobs import read_blobs, write_blobs

BATCHES_AT_ONCE = 32  # bounds the memory that decoded pictures take


def embed(
    manifest: Manifest,
    backbone: str | Callable[..., nn.Module],
    size: int,
    batch_size: int = 64,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Pooled features of every picture: float32 [N, D], in the manifest's order.

    With `cache`, each picture is embedded once by a network, however many runs ask for it.

    Args:
        manifest: the pictures.
        backbone: a timm name (with its pretrained weights) or a callable that makes the network, or features that were computed
            elsewhere, from `num_classes=0`.
        size: pixels a side at which the network sees them.
        batch_size: images a forward pass; `BATCHES_AT_ONCE` of them are decoded at a time.
        cache: file of what was computed of each picture: pixels and features (`blobs`).
        device: where the network runs.
    """
    make = partial(create_backbone, name=backbone) if isinstance(backbone, str) else backbone
    network = make_network(make, 0, size).eval()
    if isinstance(network, GivenFeatures):
        return network.look_up(manifest)
    kind = features_kind(network, size)
    digests = manifest.table["sha256"].to_list()
    vectors = {
        name: np.frombuffer(data, np.float32) for name, data in read_blobs(cache, kind, digests).items()
    }
    missing = manifest.table.filter(~pl.col("sha256").is_in(list(vectors))).unique(
        "sha256", maintain_order=True
    )
    network = network.to(device, memory_format=torch.channels_last)
    starts = range(0, missing.height, BATCHES_AT_ONCE * batch_size)
    for start in track(
        starts, "embedding", transient=True, disable=len(starts) < 2 or not get_console().is_terminal
    ):
        part = manifest.with_table(missing.slice(start, starts.step))
        found = embed_pixels(load_pixels(part, size, cache), network, batch_size)
        new = dict(zip(part.table["sha256"], found, strict=True))
        if cache is not None:
            write_blobs(cache, kind, {name: vector.tobytes() for name, vector in new.items()})
        vectors |= new
    return (
        np.stack([vectors[name] for name in digests])
        if digests
        else np.empty((0, network.num_features), np.float32)
    )


def features_kind(network: nn.Module, size: int) -> str:
    """The name under which a network's features are kept: they depend on its weights, its norms and the size."""
    statistics = getattr(network, "pretrained_cfg", None) or {}
    about = [statistics.get(name) for name in ("architecture", "mean", "std")]
    return f"features {DECODING} {module_digest(network)} {about} {size}"


@torch.inference_mode()
def embed_pixels(pixels: np.ndarray, network: nn.Module, batch_size: int = 64) -> np.ndarray:
    """Features of uint8 [N, H, W, 3] pictures, normalised as the network's weights expect: float32 [N, D]."""
    device = next(network.parameters()).device
    batches = torch.from_numpy(pixels).split(batch_size)
    return np.concatenate(
        [network(normalise(batch.to(device), network)).float().cpu().numpy() for batch in batches]
    )


def normalise(pixels: Tensor, network: nn.Module) -> Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W] with the mean and deviation of the network's training images."""
    statistics = getattr(network, "pretrained_cfg", None) or {}
    mean = torch.tensor(statistics.get("mean", (0.5, 0.5, 0.5)), device=pixels.device)
    deviation = torch.tensor(statistics.get("std", (0.5, 0.5, 0.5)), device=pixels.device)
    return ((pixels / 255 - mean) / deviation).permute(0, 3, 1, 2)  # strides stay those of channels_last


def check_sets(*sets: np.ndarray) -> None:
    """Raise InputError unless each is finite [N, D] with N >= 2, of one D."""
    for features in sets:
        if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
            raise InputError(
                f"features [N, D] of at least two images, all finite, are needed: got an array of shape {features.shape}. "
                "Give more images, or features of a network that works."
            )
    check_dimensions(*(features.shape[1] for features in sets))


def check_dimensions(*dimensions: int) -> None:
    """Raise InputError unless all are the same."""
    if len(set(dimensions)) > 1:
        raise InputError(
            f"features of {' and '.join(map(str, dimensions))} dimensions were compared: take both of one network."
        )
