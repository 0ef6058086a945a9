"""How long the rest of a sweep takes, by what its own first jobs and earlier artifacts of the store took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from omegaconf import DictConfig

from skinaug.errors import plural
from skinaug.store.artifact import Recipe
from skinaug.store.store import Store
from skinaug.store.timings import duration, nearest_seconds, timings

LEAST = 3.0  # seconds that are worth a word
MOST_EARLIER = 50  # artifacts of a stage that are looked through for the nearest: the latest


class TimeLeft:
    """What jobs that run one after the other still have to build.

    Args:
        jobs: the configuration of each, in their order, all with one store.
        stage: what they build.
    """

    def __init__(self, jobs: Sequence[DictConfig], stage: str) -> None:
        from skinaug.pipeline import recipes

        self.store = Store(Path(jobs[0].store))
        self.needs = [{recipe.key: recipe for recipe in recipes(cfg, stage).values()} for cfg in jobs]
        every = {key: recipe for needs in self.needs for key, recipe in needs.items()}
        self.missing = {key for key, recipe in every.items() if not self.store.has(recipe)}
        earlier = (
            {stage: found[:MOST_EARLIER] for stage, found in timings(self.store).items()}
            if self.missing
            else {}
        )
        self.earlier = {key: nearest_seconds(every[key], earlier) for key in self.missing}
        self.measured: dict[str, list[float]] = {}

    def begin(self, side_by_side: bool = False) -> str:
        """What all jobs have to build, in words; of jobs side by side, what they take together is no time to wait."""
        told = self._words(self.needs, " of computing" if side_by_side else "")
        count = f"{plural(len(self.needs), 'job')}, {plural(len(self.missing), 'artifact')} to build"
        return f"{count}: {told}" if told else count

    def after(self, count: int) -> str:
        """What is left when so many jobs have ended, the last of which has just been timed, in words; "" of nothing worth one."""
        for key, recipe in self.needs[count - 1].items():
            if key in self.missing and self.store.has(recipe):
                self.missing.discard(key)
                seconds = self.store.artifact(recipe).record["seconds"]
                self.measured.setdefault(recipe.stage, []).append(seconds)
        told = self._words(self.needs[count:])
        return f"{told} left" if told else ""

    def _words(self, needs: Sequence[dict[str, Recipe]], of: str = "") -> str:
        wanted = {key: recipe for need in needs for key, recipe in need.items() if key in self.missing}
        known, untimed = 0.0, dict[str, None]()
        for key, recipe in wanted.items():
            own = self.measured.get(recipe.stage)
            seconds = fmean(own) if own else self.earlier[key]
            if seconds is None:
                untimed[recipe.stage] = None
            else:
                known += seconds
        about = f"about {duration(known)}{of}" if known >= LEAST else ""
        later = f"{', '.join(untimed)}, which nothing here has timed yet" if untimed else ""
        return " and ".join(filter(None, [about, later]))
