"""Whether what a configuration names by `_target_` is there: code of one's own, and of packages that are installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from skinaug.errors import InputError, nearest

INSTALLED = ("site-packages", "dist-packages")  # folders that packages are installed in


def check_targets(where: str, config: Any, installed: bool = False) -> None:
    """Refuse settings that name code which cannot be imported.

    Args:
        where: they stand in, for messages.
        config: plain values.
        installed: import what is installed, too, which may take seconds; else only one's own code is.

    Raises:
        InputError: such as a module that is not there.
    """
    for name, target in _targets(config, where):
        if not target.startswith("skinaug.") and (why := missing(target, installed)):
            raise refusal(f"{name}={target}", why)


def missing(target: str, installed: bool = True) -> str:
    """Why a dotted name cannot be had, in words; "" where it can, or where its package is there and `installed` is false."""
    top, *rest = target.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):  # such as of an empty name
        spec = None
    if spec is None:
        return f"there is no module {top!r}"
    if not installed and _is_installed(spec):
        return ""
    name, found = top, None
    try:
        found = import_module(top)
        for part in rest:
            if isinstance(found, ModuleType) and not hasattr(found, part):
                found = _submodule(found, part)
            else:
                found = getattr(found, part)
            name = f"{name}.{part}"
    except AttributeError as error:
        if error.obj is not found:  # code of the module itself
            return f"{name} cannot be imported: AttributeError: {error}"
        return f"{name} has no {error.name!r}.{nearest(str(error.name), vars(found))}".rstrip(".")
    except Exception as error:  # whatever code of one's own may raise
        return f"{name} cannot be imported: {type(error).__name__}: {error}"
    return ""


def refusal(what: str, why: str) -> InputError:
    return InputError(
        f"{what} cannot be used: {why}. Code of your own lies in the folder that the command is started in, {os.getcwd()}, or on "
        "PYTHONPATH; packages are installed beside skinaug."
    )


def _submodule(parent: ModuleType, name: str) -> Any:
    """A module below another; as `getattr` where there is none."""
    try:
        return import_module(f"{parent.__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name not in (f"{parent.__name__}.{name}", parent.__name__):
            raise
        return getattr(parent, name)


def _is_installed(spec: ModuleSpec) -> bool:
    """Whether a module comes with Python or is installed, rather than lying in a folder of somebody's own."""
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    standard = spec.name in sys.stdlib_module_names
    return standard or any({*Path(place).parts} & {*INSTALLED} for place in places if place)


def _targets(config: Any, name: str) -> Iterator[tuple[str, str]]:
    """Where each `_target_` stands, by dotted name, and what it names."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key == "_target_" and isinstance(value, str):
                yield f"{name}._target_", value
            else:
                yield from _targets(value, f"{name}.{key}")
    elif isinstance(config, (list, tuple)):
        for number, value in enumerate(config):
            yield from _targets(value, f"{name}.{number}")
