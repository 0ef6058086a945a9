"""Decoded pictures as training batches whose order and augmentation follow from the seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Transform = Any  # PIL image -> float tensor [3, H, W]


class Pictures(Dataset):
    """Pictures in memory: uint8 [N, H, W, 3] and labels int [N] -> (float [3, H, W], label)."""

    def __init__(self, pixels: np.ndarray, labels: list[int], transform: Transform) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[row])), self.labels[row]


class AugmentedPictures(Pictures):
    """Pictures of which an item is (draw, row); the number of a batch's first draw decides its random augmentation."""

    def __init__(self, pixels: np.ndarray, labels: list[int], transform: Transform, seed: int) -> None:
        super().__init__(pixels, labels, transform)
        self.seed = seed

    def __getitems__(self, draws_and_rows: list[tuple[int, int]]) -> list[tuple[Tensor, int]]:
        first = draws_and_rows[0][0]
        entropy = int(np.random.SeedSequence([self.seed, first]).generate_state(1)[0])
        # timm's augmentations draw from the global generators, as the network's dropout does: neither may move the other.
        with isolate_rng(include_cuda=False):
            random.seed(entropy)
            np.random.seed(entropy)  # noqa: NPY002
            torch.default_generator.manual_seed(entropy)
            return [self[row] for _, row in draws_and_rows]


class Stream(Sampler[tuple[int, int]]):
    """`num_draws` pairs (draw, row): one shuffle of all rows after another, so that every batch is full."""

    def __init__(self, num_rows: int, num_draws: int, seed: int) -> None:
        self.num_rows, self.num_draws, self.seed = num_rows, num_draws, seed
        self.first = 0  # draws that an interrupted run has done

    def __len__(self) -> int:
        return self.num_draws

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for draw in range(self.first, self.num_draws):
            turn, position = divmod(draw, self.num_rows)
            if position == 0 or draw == self.first:
                order = np.random.default_rng([self.seed, turn]).permutation(self.num_rows)
            yield draw, int(order[position])


class PictureData(L.LightningDataModule):
    """Training batches for a number of optimizer steps, and validation batches; resumes where a checkpoint stopped."""

    def __init__(
        self, train: AugmentedPictures, val: Pictures | None, batch_size: int, steps: int, num_workers: int
    ) -> None:
        super().__init__()
        self.train, self.val, self.batch_size, self.num_workers = train, val, batch_size, num_workers
        self.stream = Stream(len(train), steps * batch_size, train.seed)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, sampler=self.stream, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader:
        assert self.val is not None
        return DataLoader(self.val, 4 * self.batch_size)

    def state_dict(self) -> dict[str, int]:
        return {"draws": self.trainer.global_step * self.batch_size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.stream.first = state_dict["draws"]


def make_transform(
    image_size: int, pretrained_cfg: Mapping[str, Any], augmentation: Mapping[str, Any] | None
) -> Transform:
    """timm's transform for square pictures of `image_size` pixels, normalised as the network's weights expect.

    `augmentation` is keywords of timm's training transform (scale, ratio, hflip, vflip, color_jitter, auto_augment,
    re_prob, ...); None is the evaluation transform, which changes no pixel.
    """
    options: dict[str, Any] = {
        name: pretrained_cfg[name] for name in ("mean", "std") if name in pretrained_cfg
    }
    options |= {"crop_pct": 1.0} if augmentation is None else {"is_training": True, **augmentation}
    return create_transform(image_size, **options)
