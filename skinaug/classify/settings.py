"""Which training recipes can be trained by. Imports nothing heavy, so that a bad one is refused before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skinaug.errors import InputError, listing

LEARNS = ("network", "head")
CLASS_WEIGHTS = ("balanced", "effective_number", None)


def check_recipe(
    *,
    learns: str,
    epochs: float | None,
    layer_decay: float | None,
    ema_decay: float | None,
    label_smoothing: float,
    class_weights: str | None,
    effective_beta: float,
    focal_gamma: float,
    augmentation: Mapping[str, Any] | None,
    mixup: float,
    cutmix: float,
) -> None:
    """Refuse a recipe that cannot be trained by; arguments are those of `fit.fit_classifier`.

    Raises:
        InputError: names every setting that is out of its range.
    """
    problems = []
    words = {"learns": (learns, LEARNS), "class_weights": (class_weights, CLASS_WEIGHTS)}
    for name, (word, known) in words.items():
        if word not in known:
            told = ", ".join(one or "null" for one in known)
            problems.append(f"classify.{name}={word}: it is one of {told}")
    if epochs is not None and not epochs > 0:
        problems.append(f"classify.epochs={epochs}: it is a number above 0, or null for classify.steps")
    if layer_decay is not None and not 0 < layer_decay <= 1:
        problems.append(f"classify.layer_decay={layer_decay}: it is a number above 0 and at most 1, or null")
    if ema_decay is not None and not 0 < ema_decay < 1:
        problems.append(f"classify.ema_decay={ema_decay}: it is a number between 0 and 1, or null")
    for name, value in {"label_smoothing": label_smoothing, "effective_beta": effective_beta}.items():
        if not 0 <= value < 1:
            problems.append(f"classify.{name}={value}: it is a number from 0 to below 1")
    for name, value in {"focal_gamma": focal_gamma, "mixup": mixup, "cutmix": cutmix}.items():
        if not value >= 0:
            problems.append(f"classify.{name}={value}: it is a number of at least 0")
    if learns == "head":
        given = {"augmentation": augmentation, "mixup": mixup, "cutmix": cutmix, "layer_decay": layer_decay}
        problems += [
            f"classify.{name} changes pictures or layers, and a probe (classify.learns=head) sees features alone: turn it off"
            for name, setting in given.items()
            if setting
        ]
    if problems:
        raise InputError(f"The classifier cannot be trained:\n{listing(problems)}")
