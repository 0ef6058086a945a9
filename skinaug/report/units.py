"""Runs that are one: folds of one split, and seeds that share a split or a pool.

What intervals take the spread of must be independent. Folds are judged on other patients each, and only all of them together on
every patient; seeds that learn from one split, or draw from one pool, share its luck. So they are put together before anything is
measured: the K folds of an arm and seed make one run over all patients, and where a sweep has several splits (`dataset.seed`) or
several pools (`generate.seeds`), the runs that share one make one. The report's seeds are then splits or pools, and its intervals
are intervals over these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from skinaug.report.run import FOLD, POOL, SPLIT, Run


def together(runs: Sequence[Run]) -> tuple[list[Run], set[tuple[str, int]]]:
    """Finished runs as units (see above), and (arm, seed) of those that lack a fold, which are left out.

    A unit has the number of its split or pool, else of its seed, in the place of the seed; one of a single run is that run.
    """
    present = Counter((run.arm, _place(run)) for run in runs)
    num_folds = _num_folds(runs)
    folded = {run.arm for run in runs if FOLD in run.overrides}  # not all sweeps that are compared need to be
    whole = [run for run in runs if present[run.arm, _place(run)] == (num_folds if run.arm in folded else 1)]
    lacking = {(run.arm, run.seed) for run in runs} - {(run.arm, run.seed) for run in whole}
    number = unit_number(runs)
    units: dict[tuple[str, int], list[Run]] = {}
    for run in whole:
        units.setdefault((run.arm, number(run)), []).append(run)
    found = [
        parts[0]
        if [part.seed for part in parts] == [unit]
        else replace(parts[0], seed=unit, parts=tuple(parts))
        for (_, unit), parts in units.items()
    ]
    return found, lacking


def _num_folds(runs: Sequence[Run]) -> int:
    """Folds that a whole run has; of a sweep over a single one, that one is a split like any other."""
    present = {str(run.overrides[FOLD]) for run in runs if FOLD in run.overrides}
    told = {(run.config.get("folds") or {}).get("count") or 0 for run in runs}
    return max(len(present), *told) if len(present) > 1 else 1


def kind(runs: Sequence[Run]) -> str:
    """What a sweep's runs are independent repetitions of: "split", "pool" or "seed"."""
    for key, name in ((SPLIT, "split"), (POOL, "pool")):
        if len({str(run.overrides.get(key)) for run in runs}) > 1:
            return name
    return "seed"


def unit_number(runs: Sequence[Run]) -> Callable[[Run], int]:
    """What tells the number of the unit that a run belongs to."""
    key = {"split": SPLIT, "pool": POOL, "seed": None}[kind(runs)]
    return lambda run: run.seed if key is None else int(run.overrides.get(key, 0))


def _place(run: Run) -> Hashable:
    """What the folds of one run have in common."""
    return run.place[:-1]


def jobs_of(runs: Sequence[Run]) -> list[Run]:
    """The jobs that runs are made of."""
    return [job for run in runs for job in run.parts or (run,)]


def name_jobs(runs: Sequence[Run]) -> dict[str, Run]:
    """Jobs by a name of each: `<arm>/<seed>`, and what else tells them apart."""
    keys = [key for key in (SPLIT, POOL, FOLD) if len({str(run.overrides.get(key)) for run in runs}) > 1]
    return {
        "/".join([run.arm, str(run.seed), *(f"{key}={run.overrides.get(key)}" for key in keys)]): run
        for run in runs
    }
