"""What Hydra refuses, told with the names that a mistyped one is nearest to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from skinaug.errors import nearest
from skinaug.launch.described import MACHINERY_GROUPS, groups, option_values, options, settings
from skinaug.launch.overrides import by_key, key_of
from skinaug.launch.words import several_values

NO_KEY = re.compile(r"Could not override '([^']+)'")
NO_OPTION = re.compile(r"Could not (?:find|load) '([^']+)/([^'/]+)'")
NO_GROUP = re.compile(r"Could not override '([^']+)'\.\s*No match in the defaults list")

OPTIONS = re.compile(r"Available options in '[^']+':\n((?:\t.+\n?)+)")
NO_SWEEP = re.compile(  # of groups, and of values
    r"Sweep parameters '(.+)' requires --multirun|Ambiguous value for argument '(.+)'\n1\.", re.DOTALL
)


def suggestion(message: str, overrides: Sequence[str]) -> str | None:
    """A message that names what was mistyped and what is near it; None where Hydra's own is of something else.

    overrides: of the command line, which decide the settings that there are.
    """
    if found := NO_SWEEP.search(message):
        return several_values(found[1] or found[2])
    if found := NO_OPTION.search(message):
        group, name = found.groups()
        # Hydra names what lies in folders of the command line and of `hydra.searchpath`, too.
        listed = OPTIONS.search(message)
        there = sorted({*options(group), *(listed[1].split() if listed else ())})
        if there:
            return f"{group} has no option {name!r}.{nearest(name, there)} It has {', '.join(there)}."
    if found := NO_KEY.search(message):
        key = found[1].lstrip("+~")
        if (told := _of_machinery(key, overrides)) is not None:
            return told
        known = names(overrides)
        near = nearest(key, known) or nearest(key, _ends(known, key), cutoff=0.0)
        if "/" in key or NO_GROUP.search(message):
            return f"There is no group {key!r}.{near}"
        return f"There is no setting {key!r}.{near} `skinaug <stage> --help` lists them; +{key}=... adds one that code of your own reads."
    return None


def _of_machinery(key: str, overrides: Sequence[str]) -> str | None:
    """What to tell of a key of launchers or sweepers that the chosen one does not have; None of any other key."""
    for group in MACHINERY_GROUPS:
        prefix = f"{group.replace('/', '.')}."
        if not key.startswith(prefix):
            continue
        known = option_values(group)
        chosen = by_key(overrides).get(group)
        having = [name for name, values in known.items() if key.removeprefix(prefix) in values]
        if having:
            return f"{key} is a setting of {' and of '.join(f'{group}={name}' for name in having)}: choose it, too."
        own = known.get(str(chosen)) or {
            name: value for values in known.values() for name, value in values.items()
        }
        near = nearest(key.removeprefix(prefix), own, cutoff=0.6)
        there = "; ".join(
            f"{group}={name} has {', '.join(values)}"
            for name, values in known.items()
            if values and chosen in (None, name)
        )
        return f"There is no setting {key!r}.{near} {there}."
    return None


def names(overrides: Sequence[str]) -> list[str]:
    """Every group, and every setting by dotted name."""
    return [*groups(), *settings([override for override in overrides if key_of(override) in groups()])]


def _ends(known: Sequence[str], key: str) -> list[str]:
    """Settings whose last word is nearest to that of a mistyped one."""
    words = {name.rpartition(".")[2] for name in known}
    near = difflib.get_close_matches(key.rpartition(".")[2], words, n=1, cutoff=0.8)
    return [name for name in known if name.rpartition(".")[2] in near]
