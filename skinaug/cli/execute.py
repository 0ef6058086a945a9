"""What each command of the command line does with a composed configuration: a file a command, and one for all plain stages."""

from __future__ import annotations

from importlib import import_module

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from skinaug.errors import InputError
from skinaug.launch.selections import refuse_repeated_sets
from skinaug.pipeline import check_seeds

OWN = (
    "audit",
    "classify",
    "mix",
    "prompts",
    "report",
    "review",
    "why",
)  # commands that do more than to build


READ_BY = {"predictions": "report", "real": "audit", "synthetic": "audit"}  # folders that one command takes


def execute(cfg: DictConfig, command: str, stage: str) -> float | None:
    """Run one command of the command line on a composed configuration.

    Args:
        stage: what `why` is asked of; else the command.

    Raises:
        InputError: a folder that another command takes, a seed that is none, or as the command.

    Returns:
        the validation score by which a search judges a classifier (`classify.monitor`); None of other commands.
    """
    refuse_repeated_sets(cfg, HydraConfig.get().overrides.task)
    for name, reader in READ_BY.items():
        if cfg.get(name) is not None and command != reader:
            raise InputError(f"{name}={cfg[name]} is for `skinaug {reader}` alone: leave it out.")
    check_seeds(cfg)
    module = import_module(f"skinaug.cli.{command if command in OWN else 'build'}")
    return module.command(cfg, stage)
