"""Images that lie nearer to a training photograph than photographs of different patients lie to each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
from torch import nn

from skinaug.curate.thresholds import because, check_share
from skinaug.manifest import Manifest
from skinaug.metrics.memorisation import memorisation


class Memorised:
    """Keeps what is no copy of a real training image (`metrics.memorisation`).

    Args:
        backbone: makes a pretrained network from `num_classes=0`.
        image_size: pixels a side at which the pictures are compared.
        batch_size: images a forward pass.
    """

    exposure: ClassVar[str] = "real"

    def __init__(self, backbone: Callable[..., nn.Module], image_size: int, batch_size: int = 64) -> None:
        self.backbone, self.image_size, self.batch_size = backbone, image_size, batch_size

    def score(
        self, pool: Manifest, real: Manifest, *, trainer: Callable[..., Any], cache: Path | None
    ) -> pl.DataFrame:
        """Columns image_id, `nearest` (real image_id), `similarity`, `ratio` and `copy_p`, as `memorisation` tells them."""
        device = trainer().strategy.root_device
        return memorisation(pool, real, self.backbone, self.image_size, self.batch_size, cache, device)[0]

    def keep(self, scores: pl.DataFrame, false_positive_rate: float = 0.01) -> pl.DataFrame:
        """Those that are not nearer than this share of real images is to other patients' images."""
        check_share("memorised", "false_positive_rate", false_positive_rate)
        return because(scores["copy_p"] > false_positive_rate, "copy of a training photograph")
