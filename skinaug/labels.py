"""Names of classes in options, where a command line reads 0, TRUE and INF as a number, a truth value and infinity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def class_named(value: Any, classes: Iterable[str]) -> str:
    """The class that a value of an option names: one that is written so, else the one that an option would read as this value;
    the value as text, where no class is meant."""
    text = str(value)
    classes = list(classes)
    alike = [name for name in classes if _as_read(name) == _as_read(text)]
    return alike[0] if text not in classes and len(alike) == 1 else text


def by_class(mapping: Mapping[Any, T] | None, classes: Iterable[str]) -> dict[str, T]:
    """A map of an option whose keys name classes, under the classes' names."""
    classes = list(classes)
    return {class_named(key, classes): value for key, value in (mapping or {}).items()}


def _as_read(text: str) -> str:
    """What an option makes of a word, as text: `true` of TRUE, `1.5` of 1.50, `inf` of INF."""
    try:
        return str(float(text)) if "_" not in text else text
    except ValueError:
        return text.lower() if text.lower() in ("true", "false") else text
