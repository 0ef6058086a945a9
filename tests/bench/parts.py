"""The parts besides training and drawing: rendering, decoding, mixing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from skinaug.dataset.phantom.render import render
from skinaug.dataset.phantom.source import condition_picture
from skinaug.images import load_pixels, open_image, square
from skinaug.manifest import Manifest
from skinaug.mix.mix import Mix

EPOCHS = 5


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def phantoms(count: int = 200) -> float:
    """Rendered photographs a second on one core, 64 px."""
    pictures = [condition_picture("psoriasis", patient, 0, 0) for patient in range(count)]
    return count / seconds(lambda: [render(picture, 64, rng) for picture, rng, _ in pictures])


def decoding(folder: Path, count: int = 300) -> tuple[float, float]:
    """Seconds for five epochs' pictures of 600 x 450 px: decoded once and cached, against decoded every epoch."""
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        Image.fromarray(rng.integers(0, 256, (450, 600, 3), np.uint8)).save(path)
        rows.append(
            {
                "image_id": str(number),
                "path": path.name,
                "label": "a",
                "split": "train",
                "group_id": str(number),
            }
            | {"source": "real", "width": 600, "height": 450, "sha256": f"{number:064x}"}
        )
    manifest = Manifest(pl.DataFrame(rows), folder, ("a",))
    ours = seconds(lambda: [load_pixels(manifest, 64, folder / "cache.sqlite") for _ in range(EPOCHS)])
    plain = seconds(
        lambda: [[square(open_image(path), 64) for path in manifest.paths()] for _ in range(EPOCHS)]
    )
    return ours, plain


def mixing(folder: Path, count: int = 1_000_000) -> float:
    """Seconds to draw a mix from a pool of a million rows."""
    number = pl.int_range(count, eager=True)
    table = pl.DataFrame({"image_id": number.cast(pl.String), "label": (number % 6).cast(pl.String)}).with_columns(
        path=pl.col("image_id"), split=pl.lit("train"), group_id=pl.col("image_id"), source=pl.lit("real"),
        width=pl.lit(64), height=pl.lit(64), sha256=pl.lit("0"),
    )  # fmt: skip
    real = Manifest(table, folder, tuple("012345"))
    return seconds(lambda: Mix("bench", real_ratio=0.5)(real))
