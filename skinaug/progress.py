"""A bar with the time left, for what may take long: it comes when a second has passed, and goes when all is done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 1.0  # seconds before anything is shown
Item = TypeVar("Item")


def shown(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar on the terminal while they are gone through; nothing where output goes to a file.

    what: stands before the bar. total: how many items there are, where they cannot tell themselves.
    """
    if not get_console().is_terminal:
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress, begun = Progress(*columns, transient=True), time.monotonic()
    task = progress.add_task(what, total=total)
    try:
        for item in items:
            if time.monotonic() - begun >= PATIENCE:
                progress.start()  # once; nothing where it runs
            yield item
            progress.advance(task)
    finally:
        if progress.live.is_started:
            progress.stop()
