"""What an artifact is made of, and what identifies it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinaug.errors import InputError

RECORD = "artifact.json"
SCHEMA_VERSION = (
    1  # of RECORD, raised when its form changes; records of before there was a number have the first form
)
COPY_AGAIN = "Copy that folder again, or delete it and run the command that made it."
KEY_LENGTH = 16  # hexadecimal digits: 64 bits, no collision in any study
KEY = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")


@dataclass(frozen=True)
class Recipe:
    """All that decides an artifact's content.

    Attributes:
        stage: the stage's name, also its folder in the store.
        version: raised by hand when the stage's code changes what it makes from the same config and inputs.
        config: the stage's config subtree, of JSON values.
        inputs: digest (or key) of each input, by name.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of the recipe, shortened."""
        content = json.dumps([self.stage, self.version, self.config, self.inputs], allow_nan=False)
        # Read back, all names are text: YAML's 20 and "" beside each other cannot be sorted.
        text = json.dumps(json.loads(content), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    def flat(self) -> dict[str, Any]:
        """The recipe as dotted names and leaf values, for comparing two recipes."""
        return {"version": self.version, **_flatten("config", self.config), **_flatten("inputs", self.inputs)}


@dataclass(frozen=True)
class Artifact:
    """A finished, published folder. `key` identifies its content, `path` is where it lies."""

    stage: str
    key: str
    path: Path

    @property
    def record(self) -> dict[str, Any]:
        """What `artifact.json` tells (`read_record`)."""
        return read_record(self.path)

    @property
    def recipe(self) -> Recipe:
        """What it was made of, as its record tells."""
        record = self.record
        return Recipe(record["stage"], record["version"], record["config"], record["inputs"])


def read_record(folder: Path) -> dict[str, Any]:
    """What `artifact.json` of a folder tells: config, inputs, packages, git revision, device, seconds, created, and the bytes of all
    other files.

    Raises:
        InputError: it is cut off, or cannot be read; or a later version of skinaug wrote it, in a form that this one does not know.
    """
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it holds no names")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / RECORD} cannot be read ({error}). Was the store copied in part? {COPY_AGAIN}"
        ) from error
    if (schema := record.get("schema_version", 1)) != SCHEMA_VERSION:
        by = record.get("packages", {}).get("skinaug", "of another version")
        raise InputError(
            f"{folder / RECORD} was written by skinaug {by} in form {schema}; this version reads form {SCHEMA_VERSION}. Install that "
            "skinaug, or work in a store of its own: store=<folder>."
        )
    return record


def _flatten(prefix: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {name: leaf for key in value for name, leaf in _flatten(f"{prefix}.{key}", value[key]).items()}
    return {prefix: value}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`name: old -> new` of every value that is not the same in both, by name."""
    absent = "(absent)"
    names = [name for name in sorted({*old, *new}) if old.get(name, absent) != new.get(name, absent)]
    return [f"{name}: {old.get(name, absent)} -> {new.get(name, absent)}" for name in names]
