"""Which synthetic images are held out: none that were trained on, in the class shares of validation."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from skinaug.manifest import Manifest
from skinaug.metrics.gap import unused_synthetic

CLASSES = ("a", "b")
COUNTS = st.tuples(st.integers(0, 12), st.integers(0, 12))


def images(counts: tuple[int, int], source: str, split: str, names: str = "") -> Manifest:
    rows = [
        {
            "image_id": f"{names}{source}{label}{i}",
            "label": label,
            "sha256": f"{source}{label}{(7 * i) % 12:02d}",
        }
        for label, count in zip(CLASSES, counts, strict=True)
        for i in range(count)
    ]
    about = {
        "split": split,
        "source": source,
        "width": 8,
        "height": 8,
        "prompt": "p",
        "prompt_set": "s",
        "seed": 0,
    }
    sampling = {"guidance_scale": 2.0, "num_inference_steps": 9, "scheduler": "d", "weights": "w"}
    schema = {"image_id": pl.String, "label": pl.String, "sha256": pl.String}
    table = pl.DataFrame(rows, schema=schema).with_columns(
        path=pl.col("image_id"),
        group_id=pl.col("image_id"),
        **{k: pl.lit(v) for k, v in (about | sampling).items()},
    )
    return Manifest(table, Path("/nowhere"), CLASSES)


@given(COUNTS, COUNTS, COUNTS)
def test_held_out_images_are_new_and_shared_like_validation(pool, taken, val):
    whole = images(pool, "synthetic", "train")
    trained = images((min(pool[0], taken[0]), min(pool[1], taken[1])), "synthetic", "train", "renamed-")
    found = unused_synthetic(whole, trained, images(val, "real", "val")).table
    assert set(found["image_id"]) <= set(whole.table["image_id"])
    assert not set(found["sha256"]) & set(trained.table["sha256"])
    counts = [int((found["label"] == label).sum()) for label in CLASSES]
    left = [max(0, have - gone) for have, gone in zip(pool, taken, strict=True)]
    if all(have >= want for have, want in zip(left, val, strict=True)):
        assert counts == list(val)
    assert all(count <= want for count, want in zip(counts, val, strict=True))
    if found.height:
        shares = [count / want for count, want in zip(counts, val, strict=True) if want]
        assert max(shares) - min(shares) <= 1 / min(want for want in val if want)
    elif any(val):
        assert any(want and have < want for have, want in zip(left, val, strict=True))


def test_the_same_images_every_time_whatever_the_order():
    pool, none, val = (
        images((9, 9), "synthetic", "train"),
        images((0, 0), "synthetic", "train"),
        images((4, 3), "real", "val"),
    )
    twice = pool.with_table(pl.concat([pool.table, images((9, 9), "synthetic", "train", "again-").table]))
    first, second = (
        unused_synthetic(p, none, v).table
        for p, v in (
            (twice, val),
            (twice.with_table(twice.table.reverse()), val.with_table(val.table.reverse())),
        )
    )
    assert first["image_id"].to_list() == second["image_id"].to_list()
    assert first["label"].to_list() == ["a"] * 4 + ["b"] * 3
