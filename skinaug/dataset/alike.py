"""Names of classes that are one name, written in several ways."""

from __future__ import annotations

import re

import polars as pl

from skinaug.errors import InputError, listing

APART = re.compile(r"[\s_-]+")  # what words of a name are put apart by


def refuse_alike(labels: pl.Series) -> None:
    """Refuse labels that differ in case, spaces, hyphens or underscores alone: each would be a class of its own.

    labels: one an image.

    Raises:
        InputError: all of them with their images, and the option that makes each set one class, its most frequent one.
    """
    images = dict(labels.value_counts(sort=True).iter_rows())
    spellings: dict[str, list[str]] = {}
    for label in images:
        spellings.setdefault(APART.sub(" ", label.strip().casefold()), []).append(label)
    if not (several := [names for names in spellings.values() if len(names) > 1]):
        return
    lines = [", ".join(f"{name!r} ({images[name]:,} images)" for name in names) for names in several]
    meant = {name: names[0] for names in spellings.values() for name in names}
    raise InputError(
        f"Labels differ in case, spaces, hyphens or underscores alone, and each would be a class of its own:\n{listing(lines)}\n"
        "Write them alike, or say which class each label is, those that keep their name too:\n"
        f"  dataset.labels={{{', '.join(f'{name}: {ours}' for name, ours in meant.items())}}}"
    )
