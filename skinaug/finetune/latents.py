"""Images encoded once to the VAE's moments, and numbered batches of them with captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

Batch = dict[str, Any]


@torch.inference_mode()
def encode_moments(
    vae: Any, pixels: np.ndarray, device: torch.device, batch_size: int, mirror: bool
) -> Tensor:
    """Means and deviations of q(z|x) for each image and, if `mirror`, its mirror image.

    pixels: uint8 [N, S, S, 3]. Returns float16 [N, 1 or 2 (as is, mirrored), 2 (mean, deviation), C, S/f, S/f] on the CPU,
    in the VAE's own units (not yet times `scaling_factor`).
    """
    vae.to(device).eval()
    sides = 2 if mirror else 1
    moments: Tensor | None = None
    for start in track(range(0, len(pixels), batch_size), "encoding images"):
        images = to_signal(torch.from_numpy(pixels[start : start + batch_size]).to(device))
        for side in range(sides):
            posterior = vae.encode((images.flip(-1) if side else images).to(vae.dtype)).latent_dist
            if moments is None:
                shape = (len(pixels), sides, 2, *posterior.mean.shape[1:])
                moments = torch.empty(shape, dtype=torch.float16)
            moments[start : start + len(images), side, 0] = posterior.mean.to("cpu", torch.float16)
            moments[start : start + len(images), side, 1] = posterior.std.to("cpu", torch.float16)
    return moments


def to_signal(pixels: Tensor) -> Tensor:
    """uint8 [B, S, S, 3] to float32 [B, 3, S, S] in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def balanced_rows(labels: Sequence[int], first: int, size: int, seed: int) -> np.ndarray:
    """Rows of the draws first, ..., first + size - 1 of an endless sequence, each a function of its number and the seed.

    Classes take turns; within a class every image comes once before any comes twice. int64 [size].
    """
    of_row = np.asarray(labels)
    classes = np.unique(of_row)
    members = [np.flatnonzero(of_row == label) for label in classes]
    rows = []
    for draw in range(first, first + size):
        turn, which = divmod(draw, len(classes))
        cycle, position = divmod(turn, len(members[which]))
        order = np.random.default_rng([seed, which, cycle]).permutation(len(members[which]))
        rows.append(members[which][order[position]])
    return np.asarray(rows)


def captioned_batch(
    number: int,
    moments: Tensor,
    labels: Sequence[int],
    caption: Callable[[int, np.random.Generator], str],
    tokenize: Callable[[list[str]], Tensor],
    batch_size: int,
    caption_dropout: float,
    seed: int,
) -> Batch:
    """Batch `number`: moments [B, 2, C, h, w], input_ids [B, L]; a share of captions is empty, for guidance."""
    rng = np.random.default_rng([seed, number])
    rows = balanced_rows(labels, number * batch_size, batch_size, seed)
    sides = rng.integers(moments.shape[1], size=batch_size)
    captions = ["" if rng.random() < caption_dropout else caption(int(row), rng) for row in rows]
    return {"number": number, "moments": moments[rows, sides].float(), "input_ids": tokenize(captions)}


class NumberedBatches(IterableDataset):
    """Endless batches make(first), make(first + stride), ...: a resumed run goes on with the same ones."""

    def __init__(self, make: Callable[[int], Batch], first: int, stride: int) -> None:
        self.make, self.first, self.stride = make, first, stride

    def __iter__(self) -> Iterator[Batch]:
        return map(self.make, count(self.first, self.stride))


def numbered_loader(module: LightningModule, make: Callable[[int], Batch]) -> DataLoader:
    """Batches from the module's current optimizer step on; each device gets its own numbers."""
    trainer = module.trainer
    taken = trainer.global_step * trainer.accumulate_grad_batches
    first = taken * trainer.world_size + trainer.global_rank
    return DataLoader(NumberedBatches(make, first, trainer.world_size), batch_size=None)
