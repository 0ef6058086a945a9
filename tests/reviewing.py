"""A small pool on the review page: `python reviewing.py <folder> <reviewer> <port>`. Started anew it shows the same pool."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
from coloured import coloured_images

from skinaug.curate.nearest_real import made_from
from skinaug.curate.review import review
from skinaug.manifest import Manifest


def small_pool(folder: Path, per_class: int = 3) -> Manifest:
    """Nine synthetic squares of three classes."""
    pool = coloured_images(folder / "pool", {"train": per_class}, seed=1, source="synthetic")
    return pool.with_table(
        pool.table.with_columns(prompt=pl.format("a photograph of a {} lesion, forearm", "label"))
    )


def main(folder: Path, reviewer: str, port: int) -> None:
    pool = small_pool(folder)
    real = coloured_images(folder / "real", {"train": 3}, seed=2)
    ids = pool.table["image_id"]
    near = {"nearest": [str(path) for path in real.paths()], "nearest_label": real.table["label"]}
    nearest = pl.DataFrame({"image_id": ids, **near, "similarity": 0.87})
    scores = pl.DataFrame({"image_id": ids, "non_skin.typicality": 0.8124, "ensemble.agreement": 2 / 3})
    pool = pool.with_table(
        pool.table.with_columns(
            parents=pl.concat_list(real.table["image_id"]),
            mask=pl.when(pl.int_range(pl.len()) < 6).then("path"),  # any picture will do
        )
    )
    review(
        pool,
        scores,
        nearest,
        folder / "reviews",
        reviewer,
        port=port,
        open_browser=False,
        made_from=made_from(pool, real),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
