"""A pool that is rendered by the truth itself: it proves that the measuring chain finds what an image is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import polars as pl

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.store.digest import sha256_file


class Renderer(Protocol):
    """Renders pictures of its `classes` below a folder and tells them row by row: image_id, path, label, group_id, ..."""

    classes: Sequence[str]

    def load(self, root: Path) -> pl.DataFrame: ...


def generate_oracle(
    source: Callable[..., Renderer],
    per_class: int,
    image_size: int,
    seed: int,
    *,
    classes: Sequence[str],
    out: Path,
) -> None:
    """Render `per_class` images of each class into out/images/ and write out/manifest.parquet (split train, synthetic).

    Args:
        source: makes the renderer from per_class, image_size and seed.
        per_class: images a class.
        image_size: pixels a side.
        seed: of the pictures.
        classes: of the data; the renderer must have the same.
        out: the artifact's work folder.

    Raises:
        InputError: the data has other classes than the renderer.
    """
    renderer = source(per_class=per_class, image_size=image_size, seed=seed)
    if set(classes) != set(renderer.classes):
        raise InputError(
            f"The oracle renders {', '.join(sorted(renderer.classes))}; the data has {', '.join(sorted(classes))}: use dataset=phantom."
        )
    table = renderer.load(out)
    digests = pl.Series([sha256_file(out / path) for path in table["path"]])
    made = table.with_columns(
        pl.lit("train").alias("split"),
        pl.lit("synthetic").alias("source"),
        sha256=digests,
        width=pl.lit(image_size),
        height=pl.lit(image_size),
        prompt=pl.format("rendered {}", "label"),
        prompt_set=pl.lit("oracle"),
        seed=pl.lit(seed),
        guidance_scale=pl.lit(1.0),
        num_inference_steps=pl.lit(0),
        scheduler=pl.lit("none"),
        weights=pl.lit("none"),
    )
    Manifest(made, out, tuple(classes)).write(out)
