"""`skinaug <stage>`: build a stage and what it needs."""

from __future__ import annotations

from omegaconf import DictConfig

from skinaug.pipeline import run


def command(cfg: DictConfig, stage: str) -> None:
    run(cfg, stage)
