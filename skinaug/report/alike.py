"""Which arms of two sweeps go together, where the sweeps need not have changed the same settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skinaug.report.collect import varying
from skinaug.report.run import Run
from skinaug.report.swept import flatten

ARM_OF_MIX = "mix.name"  # of a job's configuration: what its choice of a mix is called


def pair(arms: Sequence[Run], others: Sequence[Run]) -> tuple[dict[str, str], dict[str, str]]:
    """Each arm with the one of the other sweep that it is compared with, and why the rest have none.

    Two arms go together where they have one name, or where no setting that both sweeps changed, or the other sweep alone, is another: a
    setting that only the arm's own sweep changed is what the comparison tells of. There must be one such arm of the other sweep. Sweeps that
    have arms of one name and changed no setting in common are paired by name alone.

    Args:
        arms, others: finished runs of two sweeps, their arms named.

    Returns:
        arm -> other arm, and arm -> what the other sweep has in its place, in words.
    """
    ours, theirs = _first_of_each(arms), _first_of_each(others)
    keys = varying(others)
    strangers = {*ours} & {*theirs} and not {*keys} & {*varying(arms)}
    found: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for arm, run in ours.items():
        if arm in theirs:
            found[arm] = arm
            continue
        if strangers:
            reasons[arm] = "no arm of this name, and no setting is changed in both"
            continue
        wanted = {key: value for key in keys if (value := _value(run, key)) is not None}
        near = [name for name, other in theirs.items() if _agree(wanted, other)]
        if len(near) == 1:
            found[arm] = near[0]
        else:
            reasons[arm] = _reason(wanted, near, keys)
    return found, reasons


def _first_of_each(runs: Sequence[Run]) -> dict[str, Run]:
    """The first run of each arm."""
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.arm, run)
    return first


def _reason(wanted: Mapping[str, str], near: Sequence[str], keys: Sequence[str]) -> str:
    said = ", ".join(f"{key}={value}" for key, value in wanted.items())
    if not near:
        return f"no arm with {said}"
    unknown = ", ".join(key for key in keys if key not in wanted) or "what neither tells of it"
    return f"{len(near)} arms that go with it ({'; '.join(sorted(near))}), which differ in {unknown}: give that folder later"


def _agree(wanted: Mapping[str, str], other: Run) -> bool:
    there = ((value, _value(other, key)) for key, value in wanted.items())
    return all(theirs is None or _same(value, theirs) for value, theirs in there)


def _value(run: Run, key: str) -> str | None:
    """What a setting is for a run: as its command line says, else its configuration; None where neither tells."""
    if key in run.settings:
        return str(run.settings[key])
    config = dict(flatten("", run.config))
    return config.get(ARM_OF_MIX if key == "mix" else key)


def _same(value: str, other: str) -> bool:
    """1e-3 is 0.001, and null None."""
    try:
        return float(value) == float(other)
    except ValueError:
        return _plain(value) == _plain(other)


def _plain(value: str) -> str:
    return value.lower().replace("null", "none")
