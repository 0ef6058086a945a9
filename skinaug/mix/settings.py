"""Which recipes of a mix can be mixed by."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from skinaug.mix.selection import SELECTIONS

REFERENCES = ("all_real", "kept_real")
ENTRIES = ("add", "replace", "sample", "weight", "pretrain")
REAL_CONTROLS = ("real_alone", "duplicated_real", "tone_shift", "fresh_real")  # without any synthetic image
REPEATING = ("duplicated_real", "tone_shift")  # that show real images again
CONTROLS = (*REAL_CONTROLS, "label_permuted")
LARGEST = "largest"


def recipe_problems(recipe: Mapping[str, Any]) -> list[str]:
    """What is out of range, one line each.

    recipe: the attributes of a `mix.Mix`.
    """
    problems = []
    if not _in_range(recipe["real_ratio"], 0, 1):
        problems.append(f"mix.real_ratio={recipe['real_ratio']}: it is a share, from 0 to 1")
    if not _in_range(recipe["synthetic_ratio"], 0):
        problems.append(f"mix.synthetic_ratio={recipe['synthetic_ratio']}: it is a number of at least 0")
    for name in ("real_per_class", "real_limit", "synthetic_per_class", "max_per_class"):
        value = recipe[name]
        if value is not None and not _is_count(value):
            problems.append(f"mix.{name}={value}: it is a count, a whole number of at least 0")
    if recipe["reference"] not in REFERENCES and not _is_count(recipe["reference"]):
        problems.append(
            f"mix.reference={recipe['reference']}: it is one of {', '.join(REFERENCES)}, or a count"
        )
    if recipe["balance"] not in (None, LARGEST) and not _is_count(recipe["balance"]):
        problems.append(f"mix.balance={recipe['balance']}: it is {LARGEST} or a count; null for none")
    for name, known in (("selection", SELECTIONS), ("entry", ENTRIES), ("control", (None, *CONTROLS))):
        value = recipe[name]
        if value not in known:
            problems.append(
                f"mix.{name}={value}: it is one of {', '.join(str(word) for word in known if word)}"
            )
    for name in ("sample_probability", "pretrain_share"):
        value = recipe[name]
        if not _in_range(value, 0, 1) or value in (0, 1):
            problems.append(f"mix.{name}={value}: it is a number between 0 and 1")
    if not _in_range(recipe["loss_weight"], 0) or recipe["loss_weight"] == 0:
        problems.append(f"mix.loss_weight={recipe['loss_weight']}: it is a number above 0")
    for name in ("pools", "prompt_sets"):
        weights = recipe[name]
        if weights is not None and not (
            all(_in_range(weight, 0) for weight in weights.values()) and any(weights.values())
        ):
            problems.append(
                f"mix.{name}={dict(weights)}: weights are numbers of at least 0, one of them above 0"
            )
    return problems


def _in_range(value: object, least: float, most: float = sys.float_info.max) -> bool:
    return isinstance(value, (int, float)) and least <= value <= most


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _in_range(value, 0)
