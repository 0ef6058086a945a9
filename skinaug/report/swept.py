"""What a sweep changes and what its runs share, as numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skinaug.report import collect
from skinaug.report.collect import Study

WORDS = {  # swept config key -> (heading, after a value)
    "mix.real_per_class": ("Real images / class", "real / class"),
    "mix.synthetic_per_class": ("Synthetic images / class", "synthetic / class"),
    "mix.synthetic_ratio": ("Synthetic images to a real one", "synthetic to a real one"),
    "generate.guidance_scale": ("Guidance scale", "guidance"),
}


def numbers(study: Study) -> dict[str, dict[str, float]]:
    """Overrides that give three or more arms different numbers: config key -> arm -> number."""
    keys = dict.fromkeys(key for run in study.runs for key in run.settings)
    found = {}
    for key in keys:
        values = {arm: _number(study.of(arm)[0].overrides.get(key)) for arm in study.arms}
        known = {arm: value for arm, value in values.items() if value is not None}
        if len(set(known.values())) >= 3:
            found[key] = known
    return found


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def series(study: Study, key: str) -> dict[str, list[str]]:
    """Arms that differ in nothing but the seed and one swept key, by what the others that vary are set to."""
    keys = [name for name in collect.varying(study.runs) if name != key]
    found: dict[str, list[str]] = {}
    for arm in study.arms:
        overrides = study.of(arm)[0].overrides
        told = ", ".join(setting(name, overrides[name]) for name in keys if name in overrides)
        found.setdefault(told, []).append(arm)
    return found


def setting(key: str, value: Any) -> str:
    """A swept value in words."""
    return f"{value} {WORDS[key][1]}" if key in WORDS else f"{key.rpartition('.')[2]}={value}"


def heading(key: str) -> str:
    """A swept key in words."""
    return WORDS[key][0] if key in WORDS else key


def shared_settings(study: Study) -> list[tuple[str, str]]:
    """The values of the config that all runs share, as dotted names."""
    flat = [dict(flatten("", run.config)) if run.config else {} for run in study.runs]
    shared = set.intersection(*(set(values.items()) for values in flat))
    return [(name, value) for name, value in flat[0].items() if (name, value) in shared]


def flatten(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Dotted names and values, as text, of what lies in a config below a name ("" for the whole of it)."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flatten(f"{prefix}.{name}" if prefix else str(name), inner)
    else:
        yield prefix, str(value)
