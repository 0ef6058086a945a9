"""An easy set: a class is a colour. Small enough to train on in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from skinaug.manifest import SYNTHETIC, Manifest
from skinaug.store.digest import sha256_file

COLOURS = {"blue": (60, 70, 200), "green": (60, 180, 80), "red": (200, 60, 70)}


def coloured_images(
    root: Path,
    per_class: dict[str, int],
    seed: int = 0,
    labels: dict[str, str] | None = None,
    source: str = "real",
) -> Manifest:
    """Noisy 32 px squares with two pictures a patient; `per_class` is pictures a class in each split.

    `labels` gives the pictures of a colour another label than theirs.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, count in per_class.items():
        for colour, rgb in COLOURS.items():
            for k in range(count):
                name = f"{source}-{seed}-{split}-{colour}-{k}"
                noise = rng.normal(0, 40, (32, 32, 3))
                picture = np.clip(np.array(rgb) + rng.normal(0, 25, 3) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(picture).save(root / f"{name}.png")
                rows.append(
                    {
                        "image_id": name,
                        "path": f"{name}.png",
                        "label": (labels or {}).get(colour, colour),
                        "split": split,
                        "group_id": f"{split}-{colour}-{k // 2}" if source == "real" else name,
                        "source": source,
                        "width": 32,
                        "height": 32,
                        "sha256": sha256_file(root / f"{name}.png"),
                    }
                )
    table = pl.DataFrame(rows)
    if source == "synthetic":
        table = table.with_columns(pl.lit("1").alias(name) for name in SYNTHETIC)
    return Manifest(table, root, tuple(COLOURS))
