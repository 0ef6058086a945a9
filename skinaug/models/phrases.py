"""labels.json of weights: what stands for each class in a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from skinaug.errors import InputError
from skinaug.store.files import write_text

FILE_NAME = "labels.json"


def write_phrases(phrases: Mapping[str, str], out: Path) -> None:
    """Write {class: phrase} into a folder of weights, whole or not at all."""
    write_text(out / FILE_NAME, json.dumps(phrases, indent=2) + "\n")


def read_phrases(folder: Path, classes: Sequence[str]) -> dict[str, str]:
    """What stands for each of these classes in a prompt.

    Raises:
        InputError: the file is missing or damaged, or lacks a class.
    """
    phrases = all_phrases(folder)
    missing = [label for label in classes if label not in phrases]
    if missing:
        raise InputError(
            f"The weights in {folder} were not taught these classes: {', '.join(missing)}. They know "
            f"{', '.join(phrases)}. Fine-tune on the data set that you generate for."
        )
    return {label: phrases[label] for label in classes}


def all_phrases(folder: Path) -> dict[str, str]:
    """All classes that weights were taught, and what stands for each.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise InputError(
            f"{folder} is not a fine-tuning artifact: it has no labels.json with a phrase for each class."
        )
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}. Fine-tune again.") from error
