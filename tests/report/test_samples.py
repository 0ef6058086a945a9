"""Pictures of a report that were made from photographs stand above these."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.manifest import Manifest
from skinaug.report import samples


@pytest.fixture
def photographs(make_manifest, tmp_path) -> Manifest:
    real = make_manifest([{"label": "acne"}] * 4, root=tmp_path / "real")
    for i, path in enumerate(real.paths()):
        Image.new("RGB", (16, 16), (60 * i,) * 3).save(path)
    return real


def shown(pool: Manifest, photographs: Manifest) -> list[samples.Strip]:
    files = dict(zip(photographs.table["image_id"], photographs.paths(), strict=True))
    return samples._strips("synthetic", pool, "acne", 3, files)


def pixels(image: samples.Thumbnail) -> np.ndarray:
    content = base64.b64decode(image.uri.partition(",")[2])
    return np.asarray(Image.open(BytesIO(content)).convert("RGB")).astype(int)


def test_parents_and_masks_stand_below_the_pictures_in_their_order(photographs, make_manifest, tmp_path):
    made_by = {
        "prompt_set": "p",
        "seed": 0,
        "guidance_scale": 1.0,
        "num_inference_steps": 1,
        "scheduler": "ddim",
        "weights": "w",
    }
    rows = [{"label": "acne", "source": "synthetic", "prompt": f"p{i}", **made_by} for i in range(4)]
    pool = make_manifest(rows)
    assert [strip.name for strip in shown(pool, photographs)] == ["synthetic"]
    drawn = pool.with_table(pool.table.with_columns(parents=pl.Series([[]] * 4, dtype=pl.List(pl.String))))
    assert [strip.name for strip in shown(drawn, photographs)] == ["synthetic"]
    masks = [f"mask{i}.png" for i in range(4)]
    for i, mask in enumerate(masks):
        Image.new("RGB", (16, 16), (60 * i,) * 3).save(pool.root / mask)
    parents = pl.Series([["i3"], ["i2"], ["i1"], ["i0"]])
    made = pool.with_table(pool.table.with_columns(parents=parents))
    assert len(shown(made, photographs)) == 2
    made = pool.with_table(pool.table.with_columns(parents=parents, mask=pl.Series(masks)))
    pictures, below, where = shown(made, photographs)
    assert (pictures.count, below.count, where.count) == (4, 4, 4)
    for picture, parent, mask in zip(pictures.thumbnails, below.thumbnails, where.thumbnails, strict=True):
        number = int(picture.text[1:])
        assert parent.text == f"training photograph i{3 - number}"
        assert abs(pixels(parent).mean() - 60 * (3 - number)) < 2
        assert abs(pixels(mask).mean() - 60 * number) < 2
