"""Images of the pool that nearly repeat another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
from torch import nn

from skinaug.curate.thresholds import because, check_share
from skinaug.manifest import Manifest
from skinaug.metrics.features import embed
from skinaug.metrics.neighbours import nearest


class NearDuplicate:
    """Keeps one of every set of images that look alike: the first in the pool's order.

    Args:
        backbone: makes a pretrained network from `num_classes=0`.
        image_size: pixels a side at which the pictures are compared.
        neighbours: most similar images that are remembered of each; a set of copies is found whole up to this size.
        batch_size: images a forward pass.
    """

    exposure: ClassVar[str] = "off_the_shelf"

    def __init__(
        self,
        backbone: Callable[..., nn.Module],
        image_size: int,
        neighbours: int = 20,
        batch_size: int = 64,
    ) -> None:
        self.backbone, self.image_size = backbone, image_size
        self.neighbours, self.batch_size = neighbours, batch_size

    def score(
        self, pool: Manifest, real: Manifest, *, trainer: Callable[..., Any], cache: Path | None
    ) -> pl.DataFrame:
        """Columns image_id, `similarity` (cosine with the most similar other image), `like` and `like_similarity` (the ids
        of the most similar images and their cosines, most similar first)."""
        device = trainer().strategy.root_device
        features = embed(pool, self.backbone, self.image_size, self.batch_size, cache, device)
        k = min(self.neighbours + 1, len(pool))
        similarities, rows = nearest(features, features, k)
        ids = pool.table["image_id"].to_list()
        others = [
            [(ids[row], float(s)) for s, row in zip(found, near, strict=True) if row != own][
                : self.neighbours
            ]
            for own, (found, near) in enumerate(zip(similarities, rows, strict=True))
        ]
        return pl.DataFrame(
            {
                "image_id": ids,
                "similarity": [found[0][1] if found else None for found in others],
                "like": [[name for name, _ in found] for found in others],
                "like_similarity": [[s for _, s in found] for found in others],
            },
            schema_overrides={
                "similarity": pl.Float64,
                "like": pl.List(pl.String),
                "like_similarity": pl.List(pl.Float64),
            },
        )

    def keep(self, scores: pl.DataFrame, max_similarity: float = 0.97) -> pl.DataFrame:
        """Those that are less alike than this to every image that is kept before them."""
        check_share("near_duplicate", "max_similarity", max_similarity)
        place = {name: row for row, name in enumerate(scores["image_id"])}
        alike: list[set[int]] = [set() for _ in place]
        pairs = (
            scores.select("image_id", "like", "like_similarity")
            .explode("like", "like_similarity")
            .filter(pl.col("like_similarity") > max_similarity)
        )
        for one, other in pairs.select("image_id", "like").iter_rows():
            if other in place:  # not rejected by an earlier filter
                alike[place[one]].add(place[other])
                alike[place[other]].add(place[one])
        kept: list[bool] = []
        for row, others in enumerate(alike):
            kept.append(not any(other < row and kept[other] for other in others))
        return because(pl.Series(kept, dtype=pl.Boolean), "nearly repeats another image")
