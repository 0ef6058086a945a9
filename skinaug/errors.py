"""The one exception that stands for a user's mistake."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message says what was wrong, what was received and what to do. The command line exits with 2."""


def listing(items: Iterable[str], most: int = 20) -> str:
    """Items as indented lines; past `most` of them only their number is told."""
    items = list(items)
    lines = [f"  {item}" for item in items[:most]]
    if len(items) > most:
        lines.append(f"  ... and {len(items) - most} more")
    return "\n".join(lines)
