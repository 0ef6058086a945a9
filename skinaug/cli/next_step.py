"""What a stage has made, where it lies, and the command that comes next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from rich.console import Console

from skinaug.errors import plural
from skinaug.manifest import FILE_NAME
from skinaug.store.artifact import Artifact

NEXT = {  # command -> what comes after it, with the same overrides, and what that does
    "dataset": ("finetune", "teaches the base the classes"),
    "finetune": ("generate", "draws the pool"),
    "generate": ("curate", "filters the pool"),
    "curate": ("audit", "tells what may be believed of the pool"),
    "audit": ("mix", "shows what a training set would hold"),
    "mix": ("classify", "trains a classifier on it"),
    "test": ("classify", "judges a classifier on them, too"),
    "prompts": ("generate", "draws the pool"),
    "classify": ("classify -m seed=0,1,2,3,4", "repeats it at five seeds, and reports on them"),
}

console = Console()


def tell_next(command: str, made: Mapping[str, Artifact] | None = None) -> None:
    """Print what a command that ran by itself has made, and the next command; nothing where it is a job of a sweep.

    made: of all steps that led to it.
    """
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return
    for name, artifact in (made or {}).items():
        if name.partition(".")[0] == command:
            _print(f"{name}: {contents(artifact.path)}{os.path.relpath(artifact.path)}")
    if command not in NEXT:
        return  # a stage of somebody's own
    follower, does = NEXT[command]
    _print(f"next: skinaug {follower} {_words(hydra.overrides.task, follower)}".rstrip() + f"   # {does}")


def tell_after_report(sweep: Path) -> None:
    """Print what can be done with a sweep that has its report."""
    folder = shlex.quote(os.path.relpath(sweep))
    _print(
        f"next: skinaug compare {folder} <another sweep>, or skinaug export {folder} <folder> for its predictions"
    )


def contents(folder: Path) -> str:
    """How many images an artifact lists, before the place; "" of one without a manifest."""
    if not (folder / FILE_NAME).is_file():
        return ""
    import pyarrow.parquet as pq

    return f"{plural(pq.read_metadata(folder / FILE_NAME).num_rows, 'image')} in "


def _words(overrides: Sequence[str], follower: str) -> str:
    """Overrides for a shell, but those that the next command sets itself."""
    own = [word.partition("=")[0] for word in follower.split() if "=" in word]
    return " ".join(shlex.quote(word) for word in overrides if word.partition("=")[0] not in own)


def _print(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
