"""What reading a folder noticed that its user should know, though none of it stops a study: for summaries and terminals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
from rich.console import Console

from skinaug.errors import printable
from skinaug.images import BITS_10, BITS_12, BROKEN_PROFILE
from skinaug.sources.check import Picture
from skinaug.sources.masks import find_masks
from skinaug.sources.walk import walk

# Tables, and what people write beside pictures: no picture is lost in them.
TEXTS = (
    ".csv",
    ".tsv",
    ".txt",
    ".json",
    ".jsonl",
    ".parquet",
    ".xls",
    ".xlsx",
    ".md",
    ".yaml",
    ".yml",
    ".bib",
)
NO_SUFFIX = "without a suffix"
EXAMPLES = 5
WORDS = {
    BROKEN_PROFILE: "Colour profiles that cannot be used, so that values are taken for sRGB",
    BITS_12: "Pictures of 16 bits that hold 12, scaled by these",
    BITS_10: "Pictures of 16 bits that hold 10 or fewer, scaled as if they held 12 and so too dark (multiply the values of all by one "
    "factor and save them again)",
    "masks": "Pictures that look like masks, taken for photographs",
}


def unread(root: Path, listed: Iterable[str | None]) -> dict[str, int]:
    """Files below a folder that are not among those listed, counted by their suffix in small letters; the most come first.

    Hidden files and those of `TEXTS` are not counted.

    Args:
        listed: paths relative to `root`.
    """
    known = {str(PurePosixPath(name)) for name in listed if name}
    suffixes = Counter(Path(name).suffix.lower() or NO_SUFFIX for name in walk(root) if name not in known)
    by_count = sorted(suffixes.items(), key=lambda pair: (-pair[1], pair[0]))
    return {suffix: count for suffix, count in by_count if suffix not in TEXTS}


def notice(
    root: Path | None, listed: Sequence[pl.DataFrame], paths: Sequence[str], pictures: Sequence[Picture]
) -> dict[str, Any]:
    """What a summary tells: `not_read` (`unread`), and `notice_pictures`.

    Args:
        root: the folder; None: pictures were rendered, and there is nothing else.
        listed: what a source made of the folder, in one or more tables: `path`, and `mask` where it has masks of its own.
        paths, pictures: of the images that are used.
    """
    known = [
        name
        for table in listed
        for column in ("path", "mask")
        if column in table.columns
        for name in table[column]
    ]
    return {"not_read": unread(root, known) if root else {}, **notice_pictures(paths, pictures)}


def notice_pictures(paths: Sequence[str], pictures: Sequence[Picture]) -> dict[str, Any]:
    """The `count` and some `examples` of each of `WORDS` that occurs."""
    found: dict[str, list[str]] = {word: [] for word in WORDS}
    found["masks"] += find_masks(paths, pictures)
    for path, picture in zip(paths, pictures, strict=True):
        for word in picture.noticed:
            found[word].append(path)
    return {
        word: {"count": len(names), "examples": names[:EXAMPLES]} for word, names in found.items() if names
    }


def sentences(noticed: Mapping[str, Any]) -> list[str]:
    """What was noticed, in words."""
    lines = [not_read(noticed["not_read"])] if noticed.get("not_read") else []
    for word, words in WORDS.items():
        if word in noticed:
            examples = ", ".join(printable(name) for name in noticed[word]["examples"])
            more = ", ..." if noticed[word]["count"] > EXAMPLES else ""
            lines.append(f"{words}: {noticed[word]['count']:,} ({examples}{more}).")
    return lines


def not_read(counts: Mapping[str, int]) -> str:
    """Files that were not read, in words."""
    kinds = ", ".join(f"{count:,} {printable(suffix)}" for suffix, count in counts.items())
    return f"Other files of the folder, which are not read: {kinds}."


def tell(noticed: Mapping[str, Any]) -> None:
    """Print what was noticed."""
    for line in sentences(noticed):
        Console().print(line, highlight=False, markup=False, soft_wrap=True)
