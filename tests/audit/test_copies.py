"""Near-copies across splits: found however they were saved; different pictures are not called copies."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageOps

from skinaug.audit.copies import find_held_out_copies
from skinaug.dataset.dataset import build_dataset
from skinaug.dataset.phantom.source import Phantom
from skinaug.manifest import Manifest
from skinaug.models.backbone import create_backbone

FIND = partial(find_held_out_copies, partial(create_backbone, "tf_efficientnet_lite0"), 48)
SAVED = {
    "jpeg": lambda picture, path: picture.save(path.with_suffix(".jpg"), quality=75),
    "half": lambda picture, path: picture.resize((120, 120)).save(path.with_suffix(".png")),
    "mirrored": lambda picture, path: ImageOps.mirror(picture).save(path.with_suffix(".png")),
}


class Listed:
    """A source whose splits are given by the folder."""

    licence = citation = ""
    needs_root = True

    def load(self, root: Path) -> pl.DataFrame:
        paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
        splits = [path.split("/")[0] for path in paths]
        return pl.DataFrame({"path": paths, "split": splits, "label": "a", "group_id": paths})


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    Phantom(per_class=10, image_size=240, seed=5, workers=1).load(folder)
    return folder / "images"


def copies(folder: Path, out: Path) -> pl.DataFrame:
    out.mkdir()
    build_dataset(Listed(), str(folder), out)
    hashes = pl.read_parquet(out / "hashes.parquet")
    FIND(manifest=Manifest.read(out), hashes=hashes, cache=None, device=lambda: "cpu", out=out)
    return pl.read_parquet(out / "copies.parquet")


@pytest.fixture
def split(phantoms: Path, tmp_path: Path) -> Path:
    """Different pictures in all splits, the first ten of each kind for training."""
    for number, path in enumerate(sorted(phantoms.iterdir())):
        place = tmp_path / "data" / ("train", "train", "val", "test")[number % 4]
        place.mkdir(parents=True, exist_ok=True)
        (place / path.name).write_bytes(path.read_bytes())
    return tmp_path / "data"


def test_different_pictures_are_no_copies(split: Path, tmp_path: Path):
    assert copies(split, tmp_path / "out").height == 0


@pytest.mark.parametrize("saved", SAVED)
def test_a_training_picture_saved_anew_in_the_test_split_is_found(split: Path, tmp_path: Path, saved: str):
    chosen = sorted((split / "train").iterdir())[::6]
    for path in chosen:
        SAVED[saved](Image.open(path), split / "test" / f"again-{path.stem}")
    found = copies(split, tmp_path / "out")
    assert set(found["image_id"]) == {f"train/{path.name}" for path in chosen}
    assert all(
        Path(other).stem == f"again-{Path(one).stem}"
        for one, other in found.select("image_id", "other_id").iter_rows()
    )
    assert set(found["other_split"]) == {"test"}
    assert np.all(found["cosine"].to_numpy() >= 0.95)


def test_a_picture_with_several_copies_is_told_with_each(split: Path, tmp_path: Path):
    path = sorted((split / "train").iterdir())[0]
    for number in range(3):
        Image.open(path).save(
            split / ("val", "test")[number % 2] / f"again-{number}.jpg", quality=70 + 10 * number
        )
    found = copies(split, tmp_path / "out")
    assert found["image_id"].to_list() == [f"train/{path.name}"] * 3
    assert sorted(found["other_split"]) == ["test", "val", "val"]
