"""A classifier made again from its artifact says what it said when it was trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from coloured import coloured_images
from safetensors.torch import save_file

from skinaug.classify.classify import classify
from skinaug.classify.trained import classes_of, evaluate, load_classifier
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.models.backbone import create_backbone
from skinaug.models.trainer import make_trainer

BACKBONE = partial(create_backbone, "test_resnet", pretrained=False)
TRAINER = partial(make_trainer, accelerator="cpu")


@pytest.mark.parametrize("learns", ["network", "head"])
def test_it_gives_the_same_probabilities(learns: str, tmp_path: Path):
    real = coloured_images(tmp_path / "real", {"train": 8, "val": 4, "test": 6})
    recipe: dict[str, Any] = {"image_size": 32, "batch_size": 8, "learns": learns}
    out = tmp_path / "out"
    out.mkdir()
    classify(
        mix=real.split("train"), real=real, backbone=BACKBONE, steps=8, val_every_steps=4, cache=None, trainer=TRAINER,
        logger=False, optimizer=partial(torch.optim.AdamW, lr=3e-3), out=out, **recipe,
    )  # fmt: skip
    told = pl.read_parquet(out / "predictions.parquet").filter(pl.col("split") == "test")
    columns = [f"p:{name}" for name in classes_of(out)]
    again = load_classifier(out, BACKBONE, recipe, TRAINER, None)
    further = real.split("test")
    np.testing.assert_allclose(again(further), told.select(columns).to_numpy(), atol=1e-5)
    (tmp_path / "further").mkdir()
    evaluate(again, further, tmp_path / "further")
    found = pl.read_parquet(tmp_path / "further/predictions.parquet")
    assert found.drop(columns).equals(told.drop(columns))
    one = further.where(pl.col("label") == "red")
    assert again(Manifest(one.table, one.root, one.classes)).shape == (6, 3), "a set may lack classes"
    save_file({"other": torch.zeros(1)}, out / "model.safetensors")
    with pytest.raises(InputError, match="does not fit the backbone"):
        load_classifier(out, BACKBONE, recipe, TRAINER, None)
