"""A run: one job of a sweep, or several that are put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE_NAME = "predictions.parquet"
GIVEN = "predictions"  # the artifact of runs that were made elsewhere, in the place of all that a job makes
FOLD, SPLIT, POOL = "dataset.fold", "dataset.seed", "pools.number"  # overrides of chance beside the seed
EXPOSURE = "exposure"
CHANCE = {"seed", FOLD, SPLIT, POOL}
POOLS = {"generate.seed", "generate.root"}  # in which the pools differ that POOL numbers


@dataclass(frozen=True)
class Run:
    """One job of a sweep: an arm at one seed.

    Attributes:
        overrides: what the job changed, by config key.
        config: the job's whole config.
        artifacts: folder of each stage's artifact, by stage; a stage that the arm did not need is absent.
        folder: where run.json lies, if anywhere.
        parts: the jobs that this run puts together (`units`); none where it is one job.
        failure: why the job has left nothing (`unfinished`); None of one that has.
    """

    experiment: str
    arm: str
    seed: int
    overrides: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    folder: Path | None = None
    parts: tuple[Run, ...] = ()
    failure: str | None = None

    @property
    def name(self) -> str:
        return f"{self.arm}, seed {self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """The overrides that make its arm: all but those of chance, and without a pool that of what has taught it."""
        without = CHANCE | (POOLS if POOL in self.overrides else set())
        if self.artifacts and "generate" not in self.artifacts:
            without.add(EXPOSURE)
        return {key: value for key, value in self.overrides.items() if key not in without}

    @property
    def place(self) -> tuple[Any, ...]:
        """What tells the jobs of one arm apart: seed, split, pool and fold, as far as they are told."""
        return (self.seed, *(str(self.overrides.get(key, "")) for key in (SPLIT, POOL, FOLD)))

    @property
    def judged(self) -> Path | None:
        """The folder of the artifact that has the run's predictions, or will have them; None where there is none."""
        return self.artifacts.get("classify", self.artifacts.get(GIVEN))

    @property
    def finished(self) -> bool:
        """Whether the run has got as far as test predictions."""
        return self.judged is not None and (self.judged / FILE_NAME).is_file()
