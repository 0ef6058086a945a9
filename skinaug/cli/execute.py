"""What each command of the command line does with a composed configuration: a file a command, and one for all plain stages."""

from __future__ import annotations

from importlib import import_module

from omegaconf import DictConfig

OWN = (
    "audit",
    "classify",
    "mix",
    "prompts",
    "report",
    "review",
    "why",
)  # commands that do more than to build


def execute(cfg: DictConfig, command: str, stage: str) -> float | None:
    """Run one command of the command line on a composed configuration.

    Args:
        stage: what `why` is asked of; else the command.

    Returns:
        the validation score by which a search judges a classifier (`classify.monitor`); None of other commands.
    """
    module = import_module(f"skinaug.cli.{command if command in OWN else 'build'}")
    return module.command(cfg, stage)
