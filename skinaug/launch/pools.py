"""Jobs of a sweep that ask for more images than their pool has kept are told as soon as the pool is there: not one by one, each when its
own turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

from omegaconf import DictConfig

from skinaug.errors import InputError, plural
from skinaug.store.artifact import Recipe
from skinaug.store.store import Store

LOOK = 1.0  # seconds between looks at the store
OF_A_POOL = ("dataset", "curate")  # steps that tell whether a mix can be made


class PoolWatch:
    """The jobs whose pool is not there yet.

    Args:
        jobs: configuration of each, by its number.
        stage: what they build.
        names: of each job, for people.
        tell: what prints.
    """

    def __init__(
        self,
        jobs: Mapping[int, DictConfig],
        stage: str,
        names: Mapping[int, str],
        tell: Callable[[str], None],
    ) -> None:
        from skinaug.pipeline import recipes

        self.jobs, self.stage, self.names, self.tell = dict(jobs), stage, names, tell
        self.lock = Lock()
        self.waiting: dict[int, list[Recipe]] = {}
        for number, cfg in jobs.items():
            plan = recipes(cfg, stage)
            if {"mix", *OF_A_POOL} <= {*plan}:
                self.waiting[number] = [plan[name] for name in OF_A_POOL]

    def look(self) -> None:
        """Tell of the jobs whose pool is there by now and cannot serve them, once each."""
        from skinaug.pipeline import check_pool, steps, there

        with self.lock:
            made = [
                number
                for number, needs in self.waiting.items()
                if all(map(Store(Path(self.jobs[number].store)).has, needs))
            ]
            refused: dict[str, list[int]] = {}
            for number in made:
                del self.waiting[number]
                plan = steps(self.jobs[number], self.stage)
                try:
                    check_pool(self.jobs[number], plan, there(self.jobs[number], plan))
                except InputError as error:
                    refused.setdefault(str(error), []).append(number)
                except OSError:  # the job itself tells better what is wrong with the store
                    continue
            if refused:
                self._tell(refused)

    def _tell(self, refused: Mapping[str, list[int]]) -> None:
        count = sum(map(len, refused.values()))
        others = "; the others go on" if count < len(self.jobs) else ""
        lines = [f"The pool is there, and {plural(count, 'job')} cannot be built from it{others}:"]
        for message, numbers in refused.items():
            lines += [*(f"  job {number} {self.names[number]}".rstrip() for number in numbers), message]
        self.tell("\n".join(lines))

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look again and again while what is within runs."""
        ended = Event()

        def look() -> None:
            while self.waiting and not ended.wait(LOOK):
                self.look()

        thread = Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
