"""`skinaug <stage>`: build a stage and what it needs."""

from __future__ import annotations

from omegaconf import DictConfig

from skinaug.cli.next_step import tell_next
from skinaug.pipeline import run


def command(cfg: DictConfig, stage: str) -> None:
    tell_next(stage, run(cfg, stage))
