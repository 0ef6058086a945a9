"""How a sweep stands, in a file of its folder, for whoever looks on while it runs (`skinaug dashboard --local`)."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from skinaug.errors import plural
from skinaug.report.unfinished import STANDING, Asked
from skinaug.store.files import write_text
from skinaug.store.timings import duration


@dataclass
class Standing:
    """What has become of a sweep's jobs so far.

    Attributes:
        total: jobs that were asked for; a search asks for more as it goes on.
        done: jobs that ended well.
        failed: name and reason of each job that was refused or failed.
        jobs: what was asked for, by its number in the sweep, for its report; not read back here.
        started, updated: seconds since 1970.
        ended: whether nothing more is coming.
        host, pid: the process that launches the jobs.
    """

    total: int = 0
    done: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    jobs: dict[int, Asked] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)
    ended: bool = False
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def write(self, folder: Path) -> None:
        """Write it into a sweep's folder. A disk that takes nothing more does not stop the sweep for that."""
        self.updated = time.time()
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / STANDING, json.dumps(asdict(self), indent=2) + "\n")

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return max(self.total - self.done - len(self.failed), 0)

    @property
    def running(self) -> bool:
        """Whether its process may still be at work: of another machine's nobody knows, and it counts as running."""
        return not self.ended and (self.host != socket.gethostname() or _alive(self.pid))

    def seconds_left(self) -> float | None:
        """By what its own jobs took so far; None before the first has ended."""
        over = self.done + len(self.failed)
        return (self.updated - self.started) / over * self.left if over else None

    def words(self) -> str:
        """In a sentence's part, such as "running: 3 of 20 jobs done, 1 failed, about 4 minutes left"."""
        word = "ended" if self.ended else "running" if self.running else "interrupted"
        parts = [f"{self.done} of {plural(self.total, 'job')} done"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        seconds = self.seconds_left()
        if self.running and self.left and seconds is not None:
            parts.append(f"about {duration(seconds)} left")
        return f"{word}: {', '.join(parts)}"


def read_standing(folder: Path) -> Standing | None:
    """How the sweep of a folder stands; None where it has left no word of it.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        content = json.loads((folder / STANDING).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    try:
        return Standing(
            total=int(content["total"]),
            done=int(content["done"]),
            failed=[(str(name), str(reason)) for name, reason in _pairs(content["failed"])],
            started=float(content["started"]),
            updated=float(content["updated"]),
            ended=bool(content["ended"]),
            host=str(content["host"]),
            pid=int(content["pid"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _pairs(value: object) -> Iterable[tuple[object, object]]:
    if not isinstance(value, list):
        raise TypeError("failed is no list")
    return ((name, reason) for name, reason in value)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
