"""The parts besides training and drawing: rendering, decoding, mixing."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from skinaug.dataset.phantom.render import render
from skinaug.dataset.phantom.source import condition_picture
from skinaug.images import load_pixels, open_image, square
from skinaug.manifest import SYNTHETIC, Manifest
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


MIXES: dict[str, dict[str, Any]] = {  # settings of the mixes that are timed, by what is said of them
    "real": {"real_ratio": 0.5},
    "random": {"synthetic_ratio": 0.5},
    "best": {"synthetic_ratio": 0.5, "selection": "best", "score": "judge.score"},
    "balanced, with weights": {"balance": "largest", "max_per_class": 150_000, "entry": "weight"},
    "repeated": {"real_ratio": 0.5, "synthetic_ratio": 0.5, "control": "duplicated_real"},
}


def mixing(folder: Path, count: int = 1_000_000) -> dict[str, float]:
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
        name: seconds(partial(Mix("bench", **settings), real, pool, scores))
        for name, settings in MIXES.items()
    }
