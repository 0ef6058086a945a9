"""How long artifacts took, and what that says of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from skinaug.store.artifact import Recipe
from skinaug.store.store import Store

Timings = Mapping[str, Sequence[tuple[frozenset[str], float]]]  # of a stage's artifacts: values, seconds


def timings(store: Store) -> dict[str, list[tuple[frozenset[str], float]]]:
    """Of each stage's artifacts, the latest first: the values of their configs, and the seconds that they took."""
    records = sorted(
        (artifact.record for artifact in store.artifacts()), key=lambda record: record["created"]
    )
    found: dict[str, list[tuple[frozenset[str], float]]] = {}
    for record in reversed(records):
        values = _values(Recipe(record["stage"], record["version"], record["config"], {}))
        found.setdefault(record["stage"], []).append((values, record["seconds"]))
    return found


def nearest_seconds(recipe: Recipe, timed: Timings) -> float | None:
    """The seconds of the artifact of the same stage whose config differs least."""
    values = _values(replace(recipe, inputs={}))
    others = timed.get(recipe.stage, [])
    return min(others, key=lambda other: len(values ^ other[0]), default=(values, None))[1]


def duration(seconds: float) -> str:
    """Seconds in words: of hours, minutes or seconds, the largest of which there are two."""
    size, unit = next(
        (size, unit)
        for size, unit in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
        if seconds >= 2 * size or size == 1
    )
    return f"{seconds / size:.0f} {unit}"


def _values(recipe: Recipe) -> frozenset[str]:
    return frozenset(f"{name}={value}" for name, value in recipe.flat().items())
