"""`skinaug memory`: what each base takes of a device's memory, and which device holds it, before anything is downloaded."""

from __future__ import annotations

from collections.abc import Sequence

from skinaug.errors import InputError


def main(arguments: Sequence[str]) -> int:
    from skinaug.models.memory.needs import markdown

    if arguments:
        raise InputError(f"skinaug memory takes no words, got {' '.join(arguments)}.")
    print(markdown(), end="")
    return 0
