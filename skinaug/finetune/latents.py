"""Numbered batches of encoded images with captions: batch n is a function of n and the seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count
from typing import Any

import numpy as np
from lightning import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from skinaug.finetune.moments import Moments

Batch = dict[str, Any]


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

    @cache
    def order(which: int, cycle: int) -> np.ndarray:
        return np.random.default_rng([seed, which, cycle]).permutation(members[which])

    rows = []
    for draw in range(first, first + size):
        turn, which = divmod(draw, len(classes))
        cycle, position = divmod(turn, len(members[which]))
        rows.append(order(which, cycle)[position])
    return np.asarray(rows)


def captioned_batch(
    number: int,
    moments: Moments,
    labels: Sequence[int],
    caption: Callable[[int, np.random.Generator], str],
    batch_size: int,
    caption_dropout: float,
    seed: int,
) -> Batch:
    """Batch `number`: its rows (int64 [B]), a random view (int64 [B]), its moments (float32 [B, 2, C, h, w]) and a caption of each.

    A share of captions is empty, for guidance.
    """
    rows, views, captions = drawn(number, moments.views, labels, caption, batch_size, caption_dropout, seed)
    return {
        "number": number,
        "rows": rows,
        "views": views,
        "moments": moments.take(rows, views),
        "captions": captions,
    }


def drawn(
    number: int,
    num_views: int,
    labels: Sequence[int],
    caption: Callable[[int, np.random.Generator], str],
    batch_size: int,
    caption_dropout: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows, views and captions of batch `number`, without its moments."""
    rng = np.random.default_rng([seed, number])
    rows = balanced_rows(labels, number * batch_size, batch_size, seed)
    views = rng.integers(num_views, size=batch_size)
    return rows, views, ["" if rng.random() < caption_dropout else caption(int(row), rng) for row in rows]


class NumberedBatches(IterableDataset):
    """Endless batches make(first), make(first + 1), ...: a resumed run goes on with the same ones."""

    def __init__(self, make: Callable[[int], Batch], first: int) -> None:
        self.make, self.first = make, first

    def __iter__(self) -> Iterator[Batch]:
        return map(self.make, count(self.first))


def numbered_loader(module: LightningModule, make: Callable[[int], Batch]) -> DataLoader:
    """Batches from the module's current optimizer step on. Every device gets them whole, and computes its share of each."""
    first = module.trainer.global_step * module.trainer.accumulate_grad_batches
    return DataLoader(NumberedBatches(make, first), batch_size=None)
