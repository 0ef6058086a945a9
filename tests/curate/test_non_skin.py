"""The non-skin filter on photographs of skin, on what is none, and on plain vectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw

from skinaug.curate.filters.non_skin import NonSkin, by_classifier, by_neighbours, folder_manifest
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.models.backbone import create_backbone
from skinaug.models.trainer import make_trainer
from skinaug.store.digest import sha256_file

TRAINER = partial(make_trainer, accelerator="cpu")
LITE0 = partial(create_backbone, "tf_efficientnet_lite0")


def other_things(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Noise, street-like scenes with a car, text and checkerboards, 64 px."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(count):
        kind = k % 4
        if kind == 0:
            image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
        else:
            image = Image.new("RGB", (64, 64), tuple(rng.integers(0, 256, 3).tolist()))
            draw = ImageDraw.Draw(image)
            if kind == 1:
                draw.rectangle((0, 44, 64, 64), fill=(70, 70, 75))
                draw.rectangle((10, 32, 54, 48), fill=tuple(rng.integers(0, 256, 3).tolist()))
                draw.polygon([(18, 32), (24, 22), (42, 22), (48, 32)], fill=(30, 40, 60))
                for x in (20, 44):
                    draw.ellipse((x - 6, 42, x + 6, 54), fill=(10, 10, 10), outline=(200, 200, 200))
            elif kind == 2:
                for y in range(0, 64, 10):
                    draw.text((2, y), "".join(rng.choice(list("abcdefgh"), 11)), fill=(0, 0, 0))
            else:
                for x in range(0, 64, 16):
                    for y in range(x % 32, 64, 32):
                        draw.rectangle((x, y, x + 15, y + 15), fill=(255, 255, 255))
        paths.append(folder / f"thing{k}.png")
        image.save(paths[-1])
    return paths


def as_manifest(paths: list[Path], patients: list[str] | None = None) -> Manifest:
    patients = patients or [path.stem for path in paths]
    root = paths[0].parent
    rows = [
        {
            "image_id": path.stem,
            "path": path.name,
            "label": "skin",
            "split": "train",
            "group_id": patient,
            "source": "real",
            "width": 64,
            "height": 64,
            "sha256": sha256_file(path),
        }
        for path, patient in zip(paths, patients, strict=True)
    ]
    return Manifest(pl.DataFrame(rows), root, ("skin",))


@pytest.fixture
def photographs(pad_ufes_20: Path) -> tuple[Manifest, Manifest]:
    """160 real training photographs and 60 of other patients."""
    paths = sorted((pad_ufes_20 / "images").glob("*.jpg"))
    patients = [path.stem.split("_")[1] for path in paths]
    held_out = {patient for patient in patients if int(patient) % 3 == 0}
    pairs = list(zip(paths, patients, strict=True))
    train = [pair for pair in pairs if pair[1] not in held_out][:160]
    other = [pair for pair in pairs if pair[1] in held_out][:60]
    return tuple(as_manifest(*map(list, zip(*part, strict=True))) for part in (train, other))


def test_other_things_are_rejected_and_skin_is_kept(photographs: tuple[Manifest, Manifest], tmp_path: Path):
    train, held_out = photographs
    things = as_manifest(other_things(tmp_path / "things", 24))
    filter_ = NonSkin(LITE0, image_size=64)
    skin, no_skin = (
        filter_.keep(filter_.score(pool, train, trainer=TRAINER, cache=None))["keep"]
        for pool in (held_out, things)
    )
    assert skin.mean() > 0.9
    assert no_skin.mean() == 0


def test_negatives_teach_a_classifier(photographs: tuple[Manifest, Manifest], tmp_path: Path):
    train, held_out = photographs
    other_things(tmp_path / "negatives" / "nested", 40, seed=1)
    things = as_manifest(other_things(tmp_path / "things", 24))
    filter_ = NonSkin(LITE0, image_size=64, negatives=str(tmp_path / "negatives"))
    skin, no_skin = (
        filter_.keep(filter_.score(pool, train, trainer=TRAINER, cache=None))["keep"]
        for pool in (held_out, things)
    )
    assert skin.mean() > 0.9
    assert no_skin.mean() == 0


def test_the_stated_share_of_real_images_passes():
    """New images of the same distribution pass at the stated rate: the calibration is not fooled by repeat photographs."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(300), 3)

    def draw(count: int) -> np.ndarray:
        return rng.normal(size=(count, 8)) + 2

    real = np.repeat(draw(300), 3, axis=0) + rng.normal(0, 0.01, size=(900, 8))
    new, expected = by_neighbours(draw(2000), real, patients, k=5)
    filter_ = NonSkin(LITE0, 64)
    for share in (0.9, 0.98):
        percentile = np.searchsorted(np.sort(expected), new) / len(expected)
        kept = filter_.keep(pl.DataFrame({"real_percentile": percentile}), real_pass_rate=share)["keep"]
        assert kept.mean() == pytest.approx(share, abs=0.03)


def test_typicality_is_the_mean_cosine_to_the_nearest():
    rng = np.random.default_rng(0)
    pool, real = rng.normal(size=(4, 6)), rng.normal(size=(20, 6))
    cosines = (pool / np.linalg.norm(pool, axis=1)[:, None]) @ (
        real / np.linalg.norm(real, axis=1)[:, None]
    ).T
    found, _ = by_neighbours(pool, real, np.arange(20), k=3)
    np.testing.assert_allclose(found, np.sort(cosines, axis=1)[:, -3:].mean(1), atol=1e-6)


def test_the_classifier_is_calibrated_on_held_out_patients():
    """With random features, held-out log-odds of real images are no better than chance."""
    rng = np.random.default_rng(0)
    real, negatives = rng.normal(size=(100, 50)), rng.normal(size=(100, 50))
    _, expected = by_classifier(real, real, np.repeat(np.arange(50), 2), negatives)
    assert abs((expected > 0).mean() - 0.5) < 0.15


def test_thresholds_move_without_scoring_again():
    scores = pl.DataFrame({"real_percentile": [0.0, 0.01, 0.02, 0.5]})
    filter_ = NonSkin(LITE0, 64)
    assert filter_.keep(scores, 0.98)["keep"].to_list() == [False, False, True, True]
    assert filter_.keep(scores, 1.0)["keep"].to_list() == [True] * 4
    with pytest.raises(InputError, match=r"real_pass_rate=1\.5 is no share"):
        filter_.keep(scores, 1.5)


def test_bad_negatives_are_all_named(tmp_path: Path):
    with pytest.raises(InputError, match="holds 0 pictures"):
        folder_manifest(tmp_path)
    other_things(tmp_path, 6)
    for name in ("one.png", "two.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"(?s)2 pictures.*one\.png.*two\.jpg"):
        folder_manifest(tmp_path)
