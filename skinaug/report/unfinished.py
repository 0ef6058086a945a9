"""Jobs that a sweep was asked for and that left no run: those that failed, with the reason, and those that have not ended."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinaug.errors import InputError
from skinaug.report.run import Run

STANDING = "sweep.json"  # in a sweep's folder, where `launch` tells of its jobs
NOT_ENDED = "it has not ended: the sweep was stopped, or is still running"


@dataclass(frozen=True)
class Asked:
    """A job that a sweep was asked for, as the sweep's folder tells of it.

    Attributes:
        overrides: what it changes, by config key.
        reason: why it failed, or was refused; None: it did not.
    """

    experiment: str
    arm: str
    seed: int
    overrides: Mapping[str, str]
    reason: str | None = None


def unfinished(folder: Path, finished: Sequence[Run]) -> list[Run]:
    """Jobs of the sweeps below a folder that none of its finished runs is of: runs without artifacts, with their `failure`.

    A job that a later sweep below the same folder has finished is not among them.

    Raises:
        InputError: what a sweep tells of its jobs cannot be read.
    """
    done = {_identity(run.experiment, run.overrides) for run in finished}
    found: dict[Hashable, Run] = {}
    for file in sorted(Path(folder).rglob(STANDING)):
        for job in _asked(file):
            identity = _identity(job.experiment, job.overrides)
            if identity not in done:
                failure = NOT_ENDED if job.reason is None else job.reason
                about = (job.experiment, job.arm, job.seed, job.overrides)
                found[identity] = Run(*about, folder=file.parent, failure=failure)
    return list(found.values())


def _asked(file: Path) -> list[Asked]:
    """The jobs of one sweep; none where it is of a time when it did not tell."""
    try:
        jobs = json.loads(file.read_text(encoding="utf-8")).get("jobs", {})
        return [Asked(**job) for job in jobs.values()]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{file} does not tell how its sweep stands ({type(error).__name__}: {error}). Delete it, or run the sweep again."
        ) from error


def _identity(experiment: str, overrides: Mapping[str, Any]) -> Hashable:
    return experiment, frozenset((key, str(value)) for key, value in overrides.items())
