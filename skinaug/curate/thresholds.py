"""Checks of what users set in `filter.<name>.keep`."""

from __future__ import annotations

from skinaug.errors import InputError


def check_share(filter_: str, name: str, value: float) -> None:
    """Refuse a threshold outside [0, 1]."""
    if not 0 <= value <= 1:
        raise InputError(f"filter.{filter_}.keep.{name}={value} is no share: give a value in [0, 1].")


def check_count(filter_: str, name: str, value: int | None) -> None:
    """Refuse a number of images that is no whole number from 0 on; None is no limit."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InputError(f"filter.{filter_}.keep.{name}={value!r} is no number of images: give 0 or more.")
