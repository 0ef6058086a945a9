"""The course of a classifier's training: its length and validations, what is kept of it, and its learning curves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor

from skinaug.models.trainer import ResumeCheckpoint

SAVE_EVERY = timedelta(minutes=2)  # a kill costs no more work than this


@dataclass(frozen=True)
class Course:
    """How long a training goes on, and which step's weights it keeps.

    Attributes:
        steps: optimizer steps at most.
        val_every_steps: steps between validations; lowered so that the last one falls on the last step, or just before.
        judged_after: the step after which validations count; None: there is nothing to validate on, and the last step's are kept.
        monitor: the score of a validation, by which the earliest of the best is kept.
        patience: validations without a better score after which training stops early.
        ema_decay: of the average of the weights, which is then what is judged and kept; None: the weights themselves.
    """

    steps: int
    val_every_steps: int
    judged_after: int | None
    monitor: str
    patience: int
    ema_decay: float | None

    def limits(self) -> dict[str, Any]:
        """A Trainer's options for the length and the validations."""
        return {
            "max_steps": self.steps,
            "val_check_interval": self.steps // max(round(self.steps / self.val_every_steps), 1),
            "limit_val_batches": 0 if self.judged_after is None else None,
        }

    def callbacks(self, folder: Path) -> tuple[list[Callback], ModelCheckpoint | None]:
        """Checkpoints in `folder` to resume from, and with early stopping the best one; None: there is nothing to judge by.

        With averaged weights, it is these that a checkpoint holds.
        """
        common: dict[str, Any] = {"dirpath": folder, "auto_insert_metric_name": False}
        resume = ResumeCheckpoint(filename="last", train_time_interval=SAVE_EVERY, **common)
        average = (
            [] if self.ema_decay is None else [EMAWeightAveraging(decay=self.ema_decay, use_buffers=False)]
        )
        if self.judged_after is None:
            return [*average, resume], None
        # Lightning replaces the best checkpoint only by a strictly better one: of equals the earliest stays.
        # Lightning puts averaged weights into whole checkpoints only.
        best = LateCheckpoint(
            filename="best",
            monitor=self.monitor,
            mode="max",
            save_weights_only=not average,
            enable_version_counter=False,
            **common,
        )
        stop = LateStopping(self.monitor, mode="max", patience=self.patience, check_finite=False)
        best.judged_after = stop.judged_after = self.judged_after
        return [*average, best, resume, stop], best


class Late:
    """A callback that disregards validations up to the optimizer step `judged_after`."""

    judged_after = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step > self.judged_after:
            super().on_validation_end(trainer, pl_module)  # type: ignore[misc]


class LateCheckpoint(Late, ModelCheckpoint):
    """The best checkpoint after a step."""


class LateStopping(Late, EarlyStopping):
    """Early stopping after a step; a training that had stopped when it was interrupted stops again at once."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class Curves(Callback):
    """One row a validation: step, epoch (passes over the training images), mean training loss since, scores."""

    def __init__(self, epochs_a_step: float) -> None:
        self.epochs_a_step = epochs_a_step
        self.rows: list[dict[str, float]] = []
        self.losses: list[Tensor] = []
        self.steps_here = 0  # not those before a resume

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.losses.append(outputs["loss"])
        self.steps_here += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        scores = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")
        }
        step = trainer.global_step
        loss = float(torch.stack(self.losses).mean())
        self.rows.append(
            {"step": step, "epoch": round(step * self.epochs_a_step, 3), "train/loss": loss, **scores}
        )
        self.losses.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.losses = state_dict["rows"], state_dict["losses"]
