"""Manifests to mix: no pictures, only rows."""

from __future__ import annotations

from collections import Counter

import polars as pl

from skinaug.manifest import Manifest

CLASSES = ("acne", "eczema")


def real(per_class: int = 20, extra: int = 5, root: str = "/data/real") -> Manifest:
    """`per_class` training images of a class, one class having `extra` more, and a few of val and test."""
    rows = []
    for label in CLASSES:
        count = per_class + extra * (label == "acne")
        for split, n in [("train", count), ("val", 3), ("test", 4)]:
            rows += [{"image_id": f"{label}-{split}-{i}", "label": label, "split": split} for i in range(n)]
    table = pl.DataFrame(rows, schema={"image_id": pl.String, "label": pl.String, "split": pl.String})
    return manifest(table, root, "real")


def pool(per_class: int = 60, root: str = "/data/pool") -> Manifest:
    rows = [
        {
            "image_id": f"{label}-s{i}",
            "label": label,
            "split": "train",
            "prompt_set": ("plain", "clinical")[i % 2],
        }
        for label in CLASSES
        for i in range(per_class)
    ]
    table = pl.DataFrame(rows).with_columns(
        prompt=pl.lit("skin"),
        seed=pl.lit(0),
        guidance_scale=pl.lit(2.5),
        num_inference_steps=pl.lit(20),
        scheduler=pl.lit("ddim"),
        weights=pl.lit("w"),
    )
    return manifest(table, root, "synthetic")


def manifest(table: pl.DataFrame, root: str, source: str) -> Manifest:
    table = table.with_columns(
        path=pl.col("image_id") + ".png",
        group_id=pl.col("image_id"),
        source=pl.lit(source),
        width=pl.lit(64),
        height=pl.lit(64),
        sha256=pl.col("image_id"),
    )
    return Manifest(table, root, CLASSES)


def ids(mixed: Manifest) -> set[str]:
    return set(mixed.table["image_id"])


def counts(mixed: Manifest) -> dict[tuple[str, str], int]:
    return dict(Counter(mixed.table.select("label", "source").iter_rows()))
