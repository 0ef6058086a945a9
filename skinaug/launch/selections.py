"""Groups of which several options are chosen, where each option is to bring something of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from skinaug.errors import InputError

LIST = re.compile(r"dataset=.*\[")
OF_A_SET = ("source", "root", "classes")  # what one of several data sets has of its own (`dataset.stage`)


def spread_sets(overrides: Sequence[str]) -> list[str]:
    """The overrides with `dataset=[a,b]` in the words that Hydra has for it: `dataset=several`, and each set's option below
    `dataset.source.sets`, where `dataset.a.<key>` goes too. A set is an option, or `option@name`.

    Raises:
        InputError: an option twice without names, names that cannot be keys, options of a set that are the whole's, a sweep.
    """
    lists = [(place, word) for place, word in enumerate(overrides) if LIST.match(word)]
    if not lists:
        return list(overrides)
    place, word = lists[-1]
    if not (found := re.fullmatch(r"\[([^][]*)\]", word.removeprefix("dataset="))):
        raise InputError(
            f"{word}: several sets are one list, as in dataset=[ham10000,pad_ufes_20]. To sweep over such lists, write each as a file "
            "conf/dataset/<name>.yaml of your own, with `defaults: [several, ham10000@source.sets.ham10000, ...]`."
        )
    chosen = [tuple(one.strip().partition("@")[::2]) for one in found[1].split(",") if one.strip()]
    rest = [other for at, other in enumerate(overrides) if at not in {at for at, _ in lists}]
    if len(chosen) == 1 and not chosen[0][1]:
        return [*rest[:place], f"dataset={chosen[0][0]}", *rest[place:]]
    names = [name or option for option, name in chosen]
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"{word} names {'no set' if not names else 'a set twice'}. Give each a name of its own, as in "
            "dataset=[folder@clinic,folder@ward] dataset.clinic.root=<folder> dataset.ward.root=<folder>."
        )
    keys = ("source", "duplicates", "labels")
    if bad := [name for name in names if name in keys or not re.fullmatch(r"[A-Za-z]\w*", name)]:
        raise InputError(
            f"{word}: {', '.join(bad)} is no name for a set: take letters, digits and _, and no key of dataset."
        )
    spread = [
        f"+dataset@dataset.source.sets.{name}={option}"
        for (option, _), name in zip(chosen, names, strict=True)
    ]
    return ["dataset=several", *spread, *(_below_sets(other, names) for other in rest)]


def _below_sets(override: str, names: Sequence[str]) -> str:
    """`dataset.<name>.<key>=...` as `dataset.source.sets.<name>.<key>=...`."""
    found = re.match(
        rf"([+~]*)dataset\.(?:source\.sets\.)?({'|'.join(names)})\.(\w+)(.*)", override, re.DOTALL
    )
    if not found:
        return override
    signs, name, key, more = found.groups()
    if key not in OF_A_SET:
        raise InputError(
            f"{override}: of one of several sets, {', '.join(OF_A_SET)} can be set. The rest is the whole's: dataset.{key}{more}."
        )
    return f"{signs}dataset.source.sets.{name}.{key}{more}"


def refuse_repeated_sets(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse `test=[...]` of which one option takes another's place: Hydra would merge the two into one set.

    Args:
        cfg: the composed configuration.
        overrides: from which it was composed.

    Raises:
        InputError: an option is named twice, or several options call their sets by one name.
    """
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        chosen = override.value() if override.key_or_group == "test" else None
        if isinstance(chosen, list) and len(chosen) != len(cfg.test):
            raise InputError(
                f"test=[{','.join(map(str, chosen))}] names {len(chosen)} options, which make {len(cfg.test)} test sets: "
                f"{', '.join(cfg.test) or 'none'}. Name each option once, and each set in its file by a name of its own."
            )
