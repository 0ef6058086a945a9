"""Opens every image once: size, digests and a thumbnail, or why it cannot be used."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, UnidentifiedImageError
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from skinaug.errors import InputError, listing
from skinaug.images import FORMATS, NO_HEIC, read_image
from skinaug.manifest import REQUIRED
from skinaug.sources.masks import find_masks, is_colourless, is_two_valued, refuse_or_drop_masks
from skinaug.store.digest import sha256_file
from skinaug.store.files import strays

THUMBNAIL_PX = 32  # what the perceptual hash looks at
OUTSIDE = "leads out of the root"
AT_ONCE = 128  # images that wait for their turn: a table may name a million


@dataclass(frozen=True)
class Picture:
    """What one reading of an image file tells.

    Attributes:
        width, height: pixels, upright by EXIF.
        sha256: of the file.
        pixels_sha256: of the decoded RGB picture: equal for the same picture in another lossless file.
        thumbnail: grey, uint8 [32, 32].
        noticed: what reading it noticed (`images.read_image`).
        two_valued: as a mask is: two colours, or black and white but for what compression leaves.
        colourless: nothing but greys.
    """

    width: int
    height: int
    sha256: str
    pixels_sha256: str
    thumbnail: np.ndarray
    noticed: tuple[str, ...] = ()
    two_valued: bool = False
    colourless: bool = False


def check_images(
    root: Path, paths: Sequence[str], min_size_px: int = 32
) -> tuple[list[Picture | None], dict[int, str]]:
    """Read every image under `root` once.

    Args:
        root: no file outside it is read, links that lead out included.
        paths: relative to it.
        min_size_px: the shortest side that an image may have, in pixels.

    Returns:
        a Picture for every path, or None for those that cannot be used; and the reason for each of these, by row.
    """
    outside = set(strays(root, paths))
    results: list[Picture | str] = []
    with ThreadPoolExecutor() as pool, _progress() as progress:  # Pillow decodes outside the interpreter lock
        task = progress.add_task("Checking images", total=len(paths))
        for start in range(0, len(paths), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(paths)))
            results += pool.map(
                lambda row: OUTSIDE if row in outside else _read(root, paths[row], min_size_px), rows
            )
            progress.advance(task, len(rows))
    pictures = [result if isinstance(result, Picture) else None for result in results]
    return pictures, {row: result for row, result in enumerate(results) if isinstance(result, str)}


def usable_images(
    root: Path, table: pl.DataFrame, min_size_px: int, on_bad: str, masks: str = "keep"
) -> tuple[pl.DataFrame, list[Picture], pl.DataFrame]:
    """Rows of usable images with their `width`, `height` and `sha256`, what was read of each, and `path, reason` of the others.

    masks: pictures that are masks (`sources.masks`): "fail", "drop" or "keep".

    Raises:
        InputError: as `refuse_or_drop`, and likewise of masks; HEIC without its reader, which is not dropped: once there is
            one, the same settings would stand for other images.
    """
    paths = table["path"].to_list()
    pictures, reasons = check_images(root, paths, min_size_px)
    if unread := [paths[row] for row, reason in reasons.items() if reason.endswith(NO_HEIC)]:
        raise InputError(
            f"{len(unread)} of {len(paths)} images are {NO_HEIC}, or move them elsewhere:\n{listing(unread)}"
        )
    bad = table[list(reasons)].select("path", reason=pl.Series(list(reasons.values()), dtype=pl.String))
    refuse_or_drop(bad, on_bad, total=len(table))
    if masks != "keep":
        found = find_masks(paths, pictures)
        refuse_or_drop_masks(found, masks, total=len(table) - len(bad))
        pictures = [None if path in found else picture for path, picture in zip(paths, pictures, strict=True)]
        told = {"path": list(found), "reason": [f"mask: {why}" for why in found.values()]}
        bad = pl.concat([bad, pl.DataFrame(told, schema=bad.schema)])
    good = [picture for picture in pictures if picture is not None]
    kept = table[[row for row, picture in enumerate(pictures) if picture is not None]]
    measured = {
        name: pl.Series([getattr(picture, name) for picture in good], dtype=REQUIRED[name])
        for name in ("width", "height", "sha256")
    }
    return kept.with_columns(**measured), good, bad


def refuse_or_drop(bad: pl.DataFrame, on_bad: str, total: int) -> None:
    """Stop for bad images unless they are to be dropped.

    Args:
        bad: `path, reason` of each.
        on_bad: "fail" or "drop".
        total: how many images were checked.

    Raises:
        InputError: there are bad images and `on_bad` is "fail", or all images are bad.
    """
    if bad.is_empty() or (on_bad == "drop" and len(bad) < total):
        return
    lines = [f"{path}: {reason}" for path, reason in bad.select("path", "reason").iter_rows()]
    advice = "Repair or remove them, or leave them out with on_bad=drop." if len(bad) < total else ""
    raise InputError(f"{len(bad)} of {total} images cannot be used:\n{listing(lines)}\n{advice}".rstrip())


def _read(root: Path, name: str, min_size_px: int) -> Picture | str:
    """One picture, or the reason why not."""
    path = root / name
    try:
        if not path.is_file():
            return "no such file"
        image, noticed = read_image(path)
    except UnidentifiedImageError:
        return f"not an image: none of {', '.join(FORMATS)}, HEIC"
    except (OSError, ValueError) as error:  # the latter of a name with a zero byte
        return f"unreadable: {error}"
    if min(image.size) < min_size_px:
        return f"tiny: {image.width} x {image.height} px, below {min_size_px}"
    colourless = is_colourless(image)
    return Picture(
        image.width,
        image.height,
        sha256_file(path),
        _pixels_sha256(image),
        _thumbnail(image),
        noticed,
        is_two_valued(image, colourless),
        colourless,
    )


def _pixels_sha256(image: Image.Image) -> str:
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def _thumbnail(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS))


class _Rate(ProgressColumn):
    """Images a second so far."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} images/s")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()
    )
