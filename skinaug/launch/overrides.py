"""Overrides of the command line, by the keys that they change."""

from __future__ import annotations

from collections.abc import Iterable


def by_key(overrides: Iterable[str]) -> dict[str, str]:
    """Values by key, the last of each: `+a=1` and `++a=1` change `a` as `a=1` does, and `~a`, which removes it, makes it null."""
    return {key_of(override): value_of(override) for override in overrides}


def key_of(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def value_of(override: str) -> str:
    return "null" if override.startswith("~") else override.partition("=")[2]
