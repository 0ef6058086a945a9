"""A pool with planted copies of training photographs, and one without."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageFilter

from skinaug.curate.filters.memorised import Memorised
from skinaug.dataset.phantom.source import Phantom
from skinaug.errors import InputError
from skinaug.manifest import SYNTHETIC, Manifest
from skinaug.metrics.memorisation import copies, distance_ratio
from skinaug.models.backbone import create_backbone
from skinaug.models.trainer import make_trainer
from skinaug.store.digest import sha256_file

TRAINER = partial(make_trainer, accelerator="cpu")
FILTER = Memorised(partial(create_backbone, "tf_efficientnet_lite0"), image_size=64)
CHANGES = {
    "as it is": lambda picture: picture,
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(1.2)),
    "brighter": lambda picture: picture.point(lambda level: min(255, int(level * 1.1))),
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("phantom")
    table = Phantom(per_class=60, image_size=64, seed=3, workers=1).load(folder)
    digests = [sha256_file(folder / path) for path in table["path"]]
    table = table.with_columns(
        split=pl.lit("train"), source=pl.lit("real"), width=64, height=64, sha256=pl.Series(digests)
    )
    return Manifest(table, folder, tuple(sorted(table["label"].unique())))


@pytest.fixture(scope="module")
def parts(photographs: Manifest) -> tuple[Manifest, Manifest]:
    """Training photographs, and photographs of other patients that stand for an honest pool."""
    patients = photographs.table["group_id"].unique(maintain_order=True).to_list()
    fresh = pl.col("group_id").is_in(patients[::4])
    honest = photographs.table.filter(fresh).with_columns(pl.lit("1").alias(name) for name in SYNTHETIC)
    return photographs.where(~fresh), photographs.with_table(honest.with_columns(source=pl.lit("synthetic")))


def planted(real: Manifest, folder: Path, change) -> Manifest:
    """Every tenth training photograph, changed."""
    rows = []
    for row in real.table.gather_every(10).iter_rows(named=True):
        path = folder / Path(row["path"]).name
        change(Image.open(real.root / row["path"])).save(path)
        rows.append(
            {**row, "path": path.name, "sha256": sha256_file(path), "image_id": f"copy-{row['image_id']}"}
        )
    return Manifest(pl.DataFrame(rows), folder, real.classes)


def test_an_honest_pool_is_not_accused(parts, tmp_path: Path):
    real, honest = parts
    scores = FILTER.score(honest, real, trainer=TRAINER, cache=tmp_path / "pictures.sqlite")
    accused = len(honest) - FILTER.keep(scores, false_positive_rate=0.01)["keep"].sum()
    assert accused <= 4, f"{accused} of {len(honest)}: more than chance gives at 1 % (99.9 % of the time)"
    assert set(scores["nearest"]) <= set(real.table["image_id"])


@pytest.mark.parametrize("change", CHANGES)
def test_planted_copies_are_caught(parts, tmp_path: Path, change: str):
    real, _ = parts
    copied = planted(real, tmp_path, CHANGES[change])
    scores = FILTER.score(copied, real, trainer=TRAINER, cache=None)
    caught = ~FILTER.keep(scores, false_positive_rate=0.01)["keep"]
    assert caught.mean() >= 0.9, f"{change}: {caught.sum()} of {len(copied)} were caught"
    named = scores.filter(caught)
    right = named["nearest"] == named["image_id"].str.strip_prefix("copy-")
    assert right.mean() >= 0.95, "the photograph that was copied is named"


def test_a_copy_of_another_picture_of_the_same_patient_is_no_excuse():
    """Patients with twins in the training set must not make copies look normal: the baseline is other patients."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(100, 16))
    twins = np.concatenate([one, one + 1e-3])
    patients = np.array([*range(100), *range(100)])
    copy = copies(one[:5], twins, patients)
    assert (copy["tail"] == 0).all()
    fresh = copies(rng.normal(size=(200, 16)), twins, patients)
    assert 0.3 < fresh["tail"].mean() < 0.7


def test_tail_is_uniform_for_fresh_vectors():
    rng = np.random.default_rng(1)
    tails = copies(rng.normal(size=(3000, 8)), rng.normal(size=(3000, 8)), np.arange(3000))["tail"]
    for level in (0.01, 0.05, 0.5):
        assert np.mean(tails <= level) == pytest.approx(
            level, abs=4 * (level * (1 - level) / 3000) ** 0.5 * 1.5
        )


def test_ratio_by_hand():
    right_angle = distance_ratio(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5]]))
    assert right_angle == pytest.approx([0, 1])


def test_a_rate_that_is_no_share_is_refused():
    with pytest.raises(InputError, match=r"memorised\.keep\.false_positive_rate=-1"):
        FILTER.keep(pl.DataFrame(), false_positive_rate=-1)
