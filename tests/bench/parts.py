"""The parts besides training and drawing: rendering, decoding, mixing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from PIL import Image

from skinaug.dataset.phantom.render import render
from skinaug.dataset.phantom.source import condition_picture
from skinaug.images import load_pixels, open_image, square
from skinaug.manifest import SYNTHETIC, Manifest
from skinaug.mix.mix import Mix
from skinaug.store.digest import sha256_file

Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds, and what the work gave."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def phantoms(count: int) -> float:
    """Rendered photographs a second on one core, 64 px."""
    pictures = [condition_picture("psoriasis", patient, 0, 0) for patient in range(count)]
    return count / timed(lambda: [render(picture, 64, rng) for picture, rng, _ in pictures])[0]


def decoding(folder: Path, count: int, epochs: int) -> tuple[float, float, bool]:
    """Pictures of 600 x 450 px decoded once and cached, against decoded every epoch: the seconds of each, and whether the
    pixels are the same."""
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
            | {"source": "real", "width": 600, "height": 450, "sha256": sha256_file(path)}
        )
    manifest = Manifest(pl.DataFrame(rows), folder, ("a",))
    ours, cached = timed(lambda: [load_pixels(manifest, 64, folder / "cache.sqlite") for _ in range(epochs)])
    plain, decoded = timed(
        lambda: [[square(open_image(path), 64) for path in manifest.paths()] for _ in range(epochs)]
    )
    return ours, plain, np.array_equal(cached, decoded)


MIXES: dict[str, dict[str, Any]] = {  # settings of the mixes that are timed, by what is said of them
    "real": {"real_ratio": 0.5},
    "random": {"synthetic_ratio": 0.5},
    "best": {"synthetic_ratio": 0.5, "selection": "best", "score": "judge.score"},
    "balanced, with weights": {"balance": "largest", "max_per_class": 150_000, "entry": "weight"},
    "repeated": {"real_ratio": 0.5, "synthetic_ratio": 0.5, "control": "duplicated_real"},
}


def mixing(folder: Path, count: int) -> dict[str, float]:
    """Seconds to draw mixes from half as many real rows as `count`, and as many of a pool."""
    rng = np.random.default_rng(0)
    number = pl.int_range(count, eager=True)
    table = pl.DataFrame({"image_id": number.cast(pl.String), "label": rng.integers(0, 6, count).astype(str)}).with_columns(
        path=pl.col("image_id"), split=pl.lit("train"), group_id=pl.col("image_id"), width=pl.lit(64), height=pl.lit(64),
        sha256=pl.lit("0"), source=pl.when(number % 2 == 0).then(pl.lit("real")).otherwise(pl.lit("synthetic")),
    )  # fmt: skip
    made = table.filter(pl.col("source") == "synthetic").with_columns(
        pl.lit("x").alias(name) for name in SYNTHETIC
    )
    real = Manifest(table.filter(pl.col("source") == "real"), folder, tuple("012345"))
    pool = Manifest(made, folder, tuple("012345"))
    scores = made.select("image_id").with_columns(pl.Series("judge.score", rng.random(len(made))))
    return {
        name: timed(partial(Mix("bench", **settings), real, pool, scores))[0]
        for name, settings in MIXES.items()
    }


def rows(
    phantom_count: int = 200, picture_count: int = 300, epochs: int = 5, row_count: int = 1_000_000
) -> list[tuple[str, str]]:
    """Lines for the table of figures."""
    with tempfile.TemporaryDirectory() as folder:
        rate = phantoms(phantom_count)
        ours, plain, agree = decoding(Path(folder), picture_count, epochs)
        mixes = mixing(Path(folder), row_count)
    told = f"{ours:.2f} s, plain {plain:.2f} s: {plain / ours:.1f}x" + ("" if agree else ": DISAGREE")
    return [
        ("phantoms, 64 px, one core", f"{rate:.0f} images/s"),
        (f"decoding 600 x 450 px, {epochs} epochs", told),
        *((f"mix from {row_count:,} rows, {name}", f"{taken:.1f} s") for name, taken in mixes.items()),
    ]
