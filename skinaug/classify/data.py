"""Decoded pictures as training batches whose order and augmentation follow from the seed alone.

Training images are drawn alike, shuffle after shuffle, and count alike in the loss, unless their manifest has columns that say
otherwise. Images of one source (real, synthetic) share their values:

- `draw_share`: the share of all draws of a training that falls on images of this source; the shares sum up to 1;
- `draw_phase`: sources of a lower phase are drawn first, those of one phase side by side, at random;
- `loss_weight`: of the image's loss, relative to the others'.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset
from torchvision.transforms import v2

from skinaug.errors import InputError
from skinaug.models.trainer import share

Transform = Any  # PIL image -> float tensor [3, H, W]
Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # of a batch's pictures and targets
Targets = Any  # N labels, or float rows [N, C]


class Pictures(Dataset):
    """Pictures in memory: uint8 [N, H, W, 3] and N targets -> (float [3, H, W], target)."""

    def __init__(self, pixels: np.ndarray, targets: Targets, transform: Transform) -> None:
        self.pixels, self.targets, self.transform = pixels, targets, transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, Any]:
        return self.transform(Image.fromarray(self.pixels[row])), self.targets[row]


class AugmentedPictures(Pictures):
    """Pictures of which an item is (draw, row); the number of a batch's first draw decides its random augmentation."""

    def __init__(
        self,
        pixels: np.ndarray,
        targets: Targets,
        transform: Transform,
        seed: int,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__(pixels, targets, transform)
        self.seed, self.mixing = seed, mixing

    def __getitems__(self, draws_and_rows: list[tuple[int, int]]) -> list[tuple[Tensor, Any]]:
        first = draws_and_rows[0][0]
        entropy = int(np.random.SeedSequence([self.seed, first]).generate_state(1)[0])
        # timm's augmentations draw from the global generators, as the network's dropout does: neither may move the other.
        with isolate_rng(include_cuda=False):
            random.seed(entropy)
            np.random.seed(entropy)  # noqa: NPY002
            torch.default_generator.manual_seed(entropy)
            batch = [self[row] for _, row in draws_and_rows]
            if self.mixing is None:
                return batch
            pictures, targets = (torch.stack(parts) for parts in zip(*batch, strict=True))
            return list(zip(*self.mixing(pictures, targets), strict=True))


class Vectors(Dataset):
    """Features in memory: float32 [N, D] and N targets -> (float [D], target)."""

    def __init__(self, features: Tensor, targets: Targets) -> None:
        self.features, self.targets = features, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, Any]:
        return self.features[row], self.targets[row]


class DrawnVectors(Vectors):
    """Features of which an item is (draw, row)."""

    def __getitems__(self, draws_and_rows: list[tuple[int, int]]) -> list[tuple[Tensor, Any]]:
        return [self[row] for _, row in draws_and_rows]


class Batches(Sampler[list[tuple[int, int]]]):
    """Pairs (draw, row) of `draw_rows`' rows, a step's at a time; of each step those of one stretch, a device's share.

    Without augmentation, several devices learn what one would; with it, each augments its share by itself.
    """

    def __init__(self, rows: np.ndarray, batch_size: int) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.first = 0  # draws that an interrupted run has done
        self.share = slice(0, batch_size)

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in range(self.first, len(self.rows), self.batch_size):
            draws = range(start, start + self.batch_size)[self.share]
            yield [(draw, int(self.rows[draw])) for draw in draws]


class PictureData(L.LightningDataModule):
    """Training batches in the order of `rows`, and validation batches; resumes where a checkpoint stopped."""

    def __init__(
        self,
        train: AugmentedPictures | DrawnVectors,
        rows: np.ndarray,
        val: Pictures | Vectors | None,
        batch_size: int,
        num_workers: int,
    ) -> None:
        super().__init__()
        self.train, self.val, self.batch_size, self.num_workers = train, val, batch_size, num_workers
        self.batches = Batches(rows, batch_size)

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        self.batches.share = share(self.batch_size, self.trainer)
        return DataLoader(self.train, batch_sampler=self.batches, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader:
        assert self.val is not None
        assert self.trainer is not None
        own = share(len(self.val), self.trainer)
        return DataLoader(Subset(self.val, range(len(self.val))[own]), self.batch_size)

    def state_dict(self) -> dict[str, int]:
        return {"draws": self.trainer.global_step * self.batch_size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.batches.first = state_dict["draws"]


def draw_rows(images: pl.DataFrame, steps: int, batch_size: int, seed: int) -> np.ndarray:
    """Which row of a manifest's table every draw of a training is: int [steps x batch_size], every batch full.

    The rows of a source, or of the whole table where sources are not told apart, come in one shuffle after another.
    """
    num_draws = steps * batch_size
    if "draw_share" not in images.columns:
        return _shuffles(np.arange(images.height), num_draws, seed, ())
    numbered = images.with_row_index("row")
    chosen = np.empty(num_draws, np.int64)
    start = 0
    for phase, end in phase_ends(images, steps).items():
        sources = numbered.filter(pl.col("draw_phase") == phase).partition_by("source", as_dict=True)
        parts = [sources[name] for name in sorted(sources)]
        shares = np.array([part["draw_share"][0] for part in parts])
        draws = np.arange(start, end * batch_size)
        # Four numbers, and a third one of at least 1 below: no two streams of random numbers are the same.
        picks = np.random.default_rng([seed, phase, 0, 1]).choice(
            len(parts), len(draws), p=shares / shares.sum()
        )
        for number, part in enumerate(parts):
            own = draws[picks == number]
            chosen[own] = _shuffles(part["row"].to_numpy(), len(own), seed, (1 + number, phase))
        start = end * batch_size
    return chosen


def phase_ends(images: pl.DataFrame, steps: int) -> dict[int, int]:
    """The optimizer step with which each phase of a training ends, in their order; each has one step or more."""
    if "draw_phase" not in images.columns:
        return {0: steps}
    shares = images.unique("source").group_by("draw_phase").agg(pl.col("draw_share").sum()).sort("draw_phase")
    phases, parts = shares["draw_phase"].to_list(), shares["draw_share"].to_numpy()
    ends = np.rint(steps * parts.cumsum() / parts.sum()).astype(int)
    least = np.arange(1, len(ends) + 1)
    return dict(zip(phases, np.clip(ends, least, steps - least[-1] + least).tolist(), strict=True))


def last_phase_start(images: pl.DataFrame, steps: int) -> int:
    """The optimizer step after which the last phase of a training comes; 0 where there are no phases."""
    *_, start, _ = [0, *phase_ends(images, steps).values()]
    return start


def row_masses(images: pl.DataFrame) -> np.ndarray:
    """How much each row counts in training, relative to the others: its expected draws times its loss weight, float [N]."""
    draws = pl.col("draw_share") / pl.len().over("source") if "draw_share" in images.columns else pl.lit(1.0)
    weight = pl.col("loss_weight") if "loss_weight" in images.columns else pl.lit(1.0)
    return images.select("source", mass=draws * weight)["mass"].to_numpy()


def _shuffles(rows: np.ndarray, count: int, seed: int, stream: tuple[int, ...]) -> np.ndarray:
    """The first `count` of one shuffle of the rows after another."""
    turns = range(-(-count // len(rows)))
    orders = [np.random.default_rng([seed, turn, *stream]).permutation(len(rows)) for turn in turns]
    return rows[np.concatenate([np.empty(0, np.int64), *orders])[:count]]


def make_transform(
    image_size: int, pretrained_cfg: Mapping[str, Any], augmentation: Mapping[str, Any] | None
) -> Transform:
    """timm's transform for square pictures of `image_size` pixels, normalised as the network's weights expect.

    `augmentation` is keywords of timm's training transform (scale, ratio, hflip, vflip, color_jitter, auto_augment,
    re_prob, ...); None is the evaluation transform, which changes no pixel.

    Raises:
        InputError: timm refuses a keyword or its value.
    """
    options: dict[str, Any] = {
        name: pretrained_cfg[name] for name in ("mean", "std") if name in pretrained_cfg
    }
    options |= {"crop_pct": 1.0} if augmentation is None else {"is_training": True, **augmentation}
    try:
        return create_transform(image_size, **options)
    except (TypeError, ValueError, AssertionError) as error:
        if augmentation is None:
            raise
        raise InputError(
            f"augmentation={dict(augmentation)}: timm's training transform refuses it: {error or 'a value'}. Its keywords are those of "
            "timm.data.create_transform."
        ) from error


def make_mixing(mixup: float, cutmix: float) -> Mixing | None:
    """Mixes every picture of a batch with its neighbour: mixup, cutmix, or where both are asked for, either at random.

    Args:
        mixup, cutmix: alpha of the Beta distribution that shares are drawn from; 0 is never. Zhang et al. 2018 (arXiv
            1710.09412), Yun et al. 2019 (arXiv 1905.04899).
    """
    chosen = [kind(alpha=alpha) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha > 0]
    return v2.RandomChoice(chosen) if len(chosen) > 1 else chosen[0] if chosen else None
