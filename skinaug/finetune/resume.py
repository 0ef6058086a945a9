"""Where an interrupted training goes on."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

from lightning import LightningModule, Trainer

from skinaug.models.checkpoints import newest
from skinaug.models.trainer import ResumeCheckpoint


def checkpoints(folder: Path, every_minutes: float) -> ResumeCheckpoint:
    """Keep the training state of the last save in `folder`."""
    interval = timedelta(minutes=every_minutes)
    return ResumeCheckpoint(dirpath=folder, filename="{step}", train_time_interval=interval)


def fit(trainer: Trainer, module: LightningModule, folder: Path) -> None:
    """Train to the trainer's max_steps, from the newest whole checkpoint in `folder` where there is one."""
    trainer.fit(module, ckpt_path=newest(folder), weights_only=True)


def remove(folder: Path) -> None:
    """Delete a folder of training state, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
