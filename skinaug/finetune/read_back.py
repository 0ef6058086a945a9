"""A last part of training from nothing: the model draws, a reader reads the drawings' words, and the model learns from that.

A squared error hardly rewards what a word says about a lesion: its place is unknown until it shows, and then words add nothing.
A whole drawing is right or wrong about them. The gradient goes back through every step of the drawing (DRaFT: Clark et al. 2024,
section 4). What is asked is not that the reader be sure, but that it read drawings as it reads real pictures of the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from skinaug.errors import InputError
from skinaug.finetune.latents import Batch
from skinaug.finetune.methods.method import FinetuneMethod
from skinaug.finetune.module import DiffusionFinetuner, attention_for
from skinaug.finetune.reader import WordReader, misreading
from skinaug.finetune.words import UNKNOWN, Vocabulary, WordTraining
from skinaug.models.trainer import share

Asked = Callable[[int], Sequence[dict[str, Any]]]  # of a batch's number: `prompt` and the values that it says


@dataclass(frozen=True)
class ReadBack:
    """Settings.

    Attributes:
        reader: its training.
        steps, warmup_steps: optimizer steps of the model; batch_size: pictures and as many drawings, which devices share.
        ema_decay: of the average of weights that is saved.
        weight: of the misreading of drawings, in nats summed over attributes, beside the squared error's 1.
        draw_steps: least and most denoising steps of a drawing; each batch draws its own number.
        share: of the way from the weights before to those after that the saved ones have gone, in (0, 1]. Less keeps more of
            the variety that drawings had before (Wortsman et al. 2022, section 3).
    """

    reader: WordTraining
    steps: int
    batch_size: int
    warmup_steps: int
    ema_decay: float
    weight: float
    draw_steps: tuple[int, int]
    share: float
    optimizer: Callable[[Sequence[nn.Parameter]], Optimizer]

    def __post_init__(self) -> None:
        least, most = self.draw_steps
        if not 1 <= least <= most:
            raise InputError(
                f"finetune.read_back.draw_steps={list(self.draw_steps)}: the least and the most steps, each at least 1."
            )
        if not 0 < self.share <= 1:
            raise InputError(f"finetune.read_back.share={self.share}: it is above 0 and at most 1.")


@dataclass(frozen=True)
class PartOfTheWay:
    """A fine-tuning method whose saved weights lie between those that it starts from and those that it learns."""

    method: FinetuneMethod
    share: float
    start: list[Tensor] = field(default_factory=list)
    learned: list[nn.Parameter] = field(default_factory=list)

    @property
    def changes_base(self) -> bool:
        return self.method.changes_base

    def phrases(self, classes: Sequence[str]) -> dict[str, str]:
        return self.method.phrases(classes)

    def prepare(self, pipeline: Any, classes: Sequence[str], seed: int) -> list[nn.Parameter]:
        self.learned[:] = self.method.prepare(pipeline, classes, seed)
        self.start[:] = [parameter.detach().cpu().clone() for parameter in self.learned]
        return list(self.learned)

    @torch.no_grad()
    def save(self, pipeline: Any, classes: Sequence[str], out: Path) -> None:
        for parameter, start in zip(self.learned, self.start, strict=True):
            parameter.copy_(torch.lerp(start, parameter.detach().cpu(), self.share))
        self.method.save(pipeline, classes, out)


class ReadBackTrainer(DiffusionFinetuner):
    """Denoising training as before, and beside it drawings from prompts that are to be read as they ask.

    asked: prompts of a batch, `batch_size` of them. Other arguments: as in `DiffusionFinetuner` and `ReadBack`.
    """

    def __init__(
        self,
        *args: Any,
        reader: WordReader,
        vocabulary: Vocabulary,
        asked: Asked,
        weight: float,
        draw_steps: tuple[int, int],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.reader, self.vocabulary, self.asked = reader, vocabulary, asked
        self.weight, self.draw_steps = weight, draw_steps

    def on_train_start(self) -> None:
        self.reader.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        denoising = super().training_step(batch, batch_idx)
        own = share(len(batch["captions"]), self.trainer)
        rows = self.asked(batch["number"])
        told = self.reader(self.drawings(batch, [row["prompt"] for row in rows], own))
        wrong = [
            misreading(logits, self.reader.expected(name), self.numbers(rows, name)[own].to(self.device))
            for name, logits in told.items()
        ]
        misread = torch.stack(wrong).sum() / len(rows) * self.trainer.world_size
        self.log("train/misread", misread, prog_bar=True, batch_size=len(wrong[0]), sync_dist=True)
        return denoising + self.weight * misread

    def numbers(self, rows: Sequence[dict[str, Any]], name: str) -> Tensor:
        """The number of the value that each prompt says, int64 [B]."""
        values = list(self.vocabulary[name])
        return torch.tensor([values.index(row[name]) if name in row else UNKNOWN for row in rows])

    def drawings(self, batch: Batch, prompts: Sequence[str], own: slice) -> Tensor:
        """Latents that DDIM draws without guidance (Song et al. 2021, equation 12), [B, C, h, w], with gradients."""
        rng = np.random.default_rng([self.seed, batch["number"], 1])
        least, most = self.draw_steps
        steps = int(rng.integers(least, most + 1))
        noise = torch.from_numpy(rng.standard_normal(batch["moments"][:, 0].shape, dtype=np.float32))
        scheduler = DDIMScheduler.from_config(self.pipeline.scheduler.config)
        scheduler.set_timesteps(steps, device=self.device)
        latents, states = noise[own].to(self.device), self.states(prompts[own])
        with attention_for(self.denoiser, latents):
            for level in scheduler.timesteps:
                levels = level.expand(len(latents))
                prediction = self.family.denoise(self.denoiser, latents, levels, states, batch["sizes"][own])
                latents = scheduler.step(prediction.float(), level, latents).prev_sample
        return latents
