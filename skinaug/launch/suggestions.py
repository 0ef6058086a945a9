"""What Hydra refuses, told with the names that a mistyped one is nearest to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from skinaug.errors import nearest
from skinaug.launch.described import groups, options, settings
from skinaug.launch.overrides import key_of

NO_KEY = re.compile(r"Could not override '([^']+)'")
NO_OPTION = re.compile(r"Could not (?:find|load) '([^']+)/([^'/]+)'")
NO_GROUP = re.compile(r"Could not override '([^']+)'\.\s*No match in the defaults list")


def suggestion(message: str, overrides: Sequence[str]) -> str | None:
    """A message that names what was mistyped and what is near it; None where Hydra's own is of something else.

    overrides: of the command line, which decide the settings that there are.
    """
    if found := NO_OPTION.search(message):
        group, name = found.groups()
        there = options(group)
        if there:
            return f"{group} has no option {name!r}.{nearest(name, there)} It has {', '.join(there)}."
    if found := NO_KEY.search(message):
        key = found[1].lstrip("+~")
        known = names(overrides)
        near = nearest(key, known) or nearest(key, _ends(known, key), cutoff=0.0)
        if "/" in key or NO_GROUP.search(message):
            return f"There is no group {key!r}.{near}"
        return f"There is no setting {key!r}.{near} `skinaug <stage> --help` lists them; +{key}=... adds one that code of your own reads."
    return None


def names(overrides: Sequence[str]) -> list[str]:
    """Every group, and every setting by dotted name."""
    return [*groups(), *settings([override for override in overrides if key_of(override) in groups()])]


def _ends(known: Sequence[str], key: str) -> list[str]:
    """Settings whose last word is nearest to that of a mistyped one."""
    words = {name.rpartition(".")[2] for name in known}
    near = difflib.get_close_matches(key.rpartition(".")[2], words, n=1, cutoff=0.8)
    return [name for name in known if name.rpartition(".")[2] in near]
