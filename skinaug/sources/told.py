"""What a source has to tell of what it read, beside its table: counts and examples, for a stage's output and summary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console

_LINES: ContextVar[list[str] | None] = ContextVar("lines", default=None)


def tell(line: str) -> None:
    """Add a sentence to what the innermost `telling` collects; printed where nobody collects."""
    lines = _LINES.get()
    if lines is None:
        Console().print(line, highlight=False, markup=False, soft_wrap=True)
    else:
        lines.append(line)


@contextmanager
def telling() -> Iterator[list[str]]:
    """The sentences that are told inside, in their order."""
    lines: list[str] = []
    token = _LINES.set(lines)
    try:
        yield lines
    finally:
        _LINES.reset(token)
