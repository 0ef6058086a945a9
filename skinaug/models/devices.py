"""What a trainer is asked for: which devices, how many of them, and in which precision. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skinaug.errors import InputError, listing

ALL = ("auto", -1, "-1")  # of the machine's GPUs
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
HALVES = (
    "16-mixed",
    "16-true",
    "bf16-mixed",
    "bf16-true",
    "transformer-engine",
    "transformer-engine-float16",
)
PRECISIONS = ("auto", "32-true", "64-true", *HALVES, "16", "32", "64", "bf16")


def device_numbers(devices: Any) -> Any:
    """A trainer's `devices`, where it is a text as a number or a list of numbers: `2`, `0,1`."""
    if not isinstance(devices, str) or devices in ALL:
        return devices
    numbers = [int(number) for number in devices.split(",") if number.strip()]
    return numbers if "," in devices else numbers[0]


def device_count(devices: Any) -> int | None:
    """How many devices of a machine that asks for; None: all of its GPUs."""
    if devices in ALL:
        return None
    numbers = device_numbers(devices)
    return len(numbers) if isinstance(numbers, list) else int(numbers)


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Refuse a trainer that asks for what there cannot be.

    Raises:
        InputError: names every setting that is out of its range.
    """
    problems = []
    if "devices" in trainer and not _are_devices(trainer["devices"]):
        problems.append(
            f"trainer.devices={trainer['devices']}: it is a number above 0, auto, or a list of different devices, such as [0,1]"
        )
    nodes = trainer.get("num_nodes", 1)
    if not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1:
        problems.append(f"trainer.num_nodes={nodes}: it is a whole number above 0")
    for name, known in {"accelerator": ACCELERATORS, "precision": PRECISIONS}.items():
        if name in trainer and str(trainer[name]) not in known:
            problems.append(f"trainer.{name}={trainer[name]}: it is one of {', '.join(known)}")
    if problems:
        raise InputError(f"There is no such trainer:\n{listing(problems)}")


def _are_devices(asked: Any) -> bool:
    if asked in ALL:
        return True
    try:
        numbers = device_numbers(asked)
    except (ValueError, IndexError):
        return False
    if isinstance(numbers, list):
        whole = all(isinstance(number, int) and number >= 0 for number in numbers)
        return whole and len(numbers) == len(set(numbers)) > 0
    return isinstance(numbers, int) and not isinstance(numbers, bool) and numbers > 0
