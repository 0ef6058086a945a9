"""The control `tone_shift`: where the skin ends up, what the draws follow from, and what is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image, ImageCms

from skinaug import pipeline
from skinaug.errors import InputError
from skinaug.images import load_pixels
from skinaug.launch import configs
from skinaug.leaks.certificate import certify
from skinaug.leaks.seen import photographs_of
from skinaug.manifest import Manifest
from skinaug.metrics.colour import lab, pixels_of_lab
from skinaug.metrics.skin import measure
from skinaug.mix.mix import Mix
from skinaug.mix.tones import TONE_ENDS_DEG, lack, shift_tones, shifted
from skinaug.report.artifacts import mix_table
from skinaug.report.collect import Run
from skinaug.store.digest import sha256_file

LIGHT, LESION = (222, 184, 160), (120, 70, 60)
CLASSES = ("eczema", "nevus")
SMALL = [
    "scale.phantom_per_class=14",
    "scale.image_size=32",
    "scale.real_limit=4",
    "trainer=cpu",
    "logger=none",
]


@pytest.fixture
def photographs(tmp_path: Path) -> Manifest:
    """Light skin with a dark blob: four training photographs of two classes, and a test photograph."""
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "real").mkdir()
    y, x = np.mgrid[:96, :120]
    for number in range(5):
        blob = np.hypot(y - 48, x - 55 - 3 * number)[..., None] < 14
        pixels = np.where(blob, LESION, LIGHT) + rng.normal(0, 2, (96, 120, 3)) - 4 * number
        file = tmp_path / "real" / f"{number}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
        split = "test" if number == 4 else "train"
        about = {"image_id": f"a/{number}", "path": file.name, "label": CLASSES[number % 2], "split": split}
        size = {"width": 120, "height": 96, "sha256": sha256_file(file)}
        rows.append(about | {"group_id": f"p{number}", "source": "real"} | size)
    return Manifest(pl.DataFrame(rows), tmp_path / "real", CLASSES, "CC0", "nobody")


def shift(photographs: Manifest, out: Path, seed: int = 0, per_class: int = 6, **options) -> Manifest:
    out.mkdir()
    recipe = Mix("m", synthetic_per_class=per_class, control="tone_shift", seed=seed, **options)
    return shift_tones(recipe.repeated(photographs), recipe.tone_shift_ita, seed, out)


def test_colours_go_there_and_back():
    levels = np.random.default_rng(0).integers(0, 256, (500, 3), np.uint8)
    assert np.array_equal(pixels_of_lab(lab(levels / 255)), levels)
    outside = pixels_of_lab(np.array([[50.0, 120.0, 0.0], [100.0, 0.0, 90.0], [0.0, 60.0, -60.0]]))
    assert outside.dtype == np.uint8, "no value wraps round"
    assert outside[0, 1] == 0
    assert outside[1, 0] == 255


def test_skin_has_the_angle_that_was_drawn(photographs: Manifest, tmp_path: Path):
    made = shift(photographs, tmp_path / "out")
    found = measure(load_pixels(made, 64))["ita_deg"].to_numpy()
    assert np.abs(found - made.table["ita_deg"].to_numpy()).max() < 2.5
    assert np.ptp(found) > 60, "from light to dark"


@pytest.mark.parametrize("ita", [-45.0, 60.0])
def test_another_implementation_of_lab_agrees_and_the_lesion_stays_darker(ita: float):
    """Little CMS adapts to D50, where angles are a degree or two different."""
    flat = np.full((16, 16, 3), LIGHT, np.uint8)
    flat[4:8, 4:8] = LESION
    made = shifted(flat, lab(np.array(LIGHT) / 255), ita)
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    values = np.asarray(ImageCms.applyTransform(Image.fromarray(made), to_lab)).astype(np.int16)
    lightness, yellow = values[..., 0] / 2.55, values[..., 2].astype(np.uint8).view(np.int8).astype(float)
    angle = np.degrees(np.arctan2(lightness[0, 0] - 50, yellow[0, 0]))
    assert angle == pytest.approx(ita, abs=4)
    assert 0 < lightness[5, 5] < lightness[0, 0] - 8, "the lesion goes with the skin"


def test_the_same_seed_gives_the_same_pictures_whatever_else_is_drawn(photographs: Manifest, tmp_path: Path):
    one, more = shift(photographs, tmp_path / "one"), shift(photographs, tmp_path / "more", per_class=9)
    other = shift(photographs, tmp_path / "other", seed=1)
    digests = dict(more.table.select("image_id", "sha256").iter_rows())
    assert all(digests[name] == digest for name, digest in one.table.select("image_id", "sha256").iter_rows())
    assert one.table.height == 12
    assert not set(one.table["sha256"]) & set(other.table["sha256"])
    assert one.table["sha256"].n_unique() == 12, "each repetition has a tone of its own"


def test_tones_that_are_there_are_not_drawn():
    """Three of tone 2, one of tone 3: tone 2 is had already, tone 3 is drawn less than those that nobody has."""
    assert np.allclose(lack(np.array([2, 2, 2, 3])), np.array([3, 0, 2, 3, 3, 3]) / 14)
    assert np.allclose(lack(np.arange(1, 7)), 1 / 6)
    assert TONE_ENDS_DEG == ((55, 65), (41, 55), (28, 41), (10, 28), (-30, 10), (-50, -30))


def test_a_stated_range_is_kept(photographs: Manifest, tmp_path: Path):
    made = shift(photographs, tmp_path / "out", tone_shift_ita=[-40, -20])
    assert made.table["ita_deg"].is_between(-40, -20).all()
    for bad in ([10, -50], [0], ["a", "b"], [-95, 0]):
        with pytest.raises(InputError, match=r"mix\.tone_shift_ita="):
            Mix("m", control="tone_shift", tone_shift_ita=bad)


def test_parents_are_recorded_and_certified(photographs: Manifest, tmp_path: Path):
    made = shift(photographs, tmp_path / "out")
    mixed = Mix("m", synthetic_per_class=6, control="tone_shift")(photographs, shifted=made)
    assert mixed.table["source"].unique().to_list() == ["real"]
    assert mixed.table["split"].unique().to_list() == ["train"]
    assert Mix("m", synthetic_per_class=6, control="tone_shift").counts(photographs)["real"].to_list() == [
        8,
        8,
    ]
    reached = photographs_of(mixed, photographs)
    assert reached.height == 16
    assert set(reached["image_id"]) == {f"a/{number}" for number in range(4)}
    copies = pl.DataFrame(schema={"image_id": pl.String, "other_id": pl.String})
    assert certify(photographs, copies, {"training": reached})["holds"]
    # The same of a test photograph, and of one that nobody knows.
    for parent, fault in (("a/4", "is a held-out photograph"), ("b", "is not in the data set")):
        wrong = mixed.with_table(
            mixed.table.with_columns(
                parents=pl.when(pl.col("parents").is_not_null()).then(pl.lit([parent])).otherwise(None)
            )
        )
        found = certify(photographs, copies, {"training": photographs_of(wrong, photographs)})
        assert not found["holds"]
        assert any(fault in text for text in found["faults"])


def test_without_the_pictures_it_is_refused(photographs: Manifest):
    with pytest.raises(InputError, match="photographs of other tones"):
        Mix("m", synthetic_per_class=2, control="tone_shift")(photographs)


def test_a_mix_with_its_certificate_and_what_a_report_counts(tmp_path: Path):
    overrides = ["mix=hybrid", "mix.control=tone_shift", "mix.synthetic_per_class=3", *SMALL]
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        cfg = compose("config", [f"store={tmp_path / 'store'}", f"output={tmp_path}", *overrides])
    made = pipeline.run(cfg, "mix")
    assert "generate" not in made, "no pool is made"
    mixed = Manifest.read(made["mix"].path)
    assert load_pixels(mixed, 32).shape == (len(mixed), 32, 32, 3), "every picture is where the manifest says"
    certificate = json.loads((made["mix"].path / "certificate.json").read_text())
    assert certificate["holds"]
    assert certificate["places"]["training"]["photographs"] == len(mixed) == 6 * (2 + 3)
    run = Run("study", "tone_shift", 0, artifacts={"mix": made["mix"].path})
    counted = mix_table(run)
    assert set(counted.select("real", "repeated", "synthetic").iter_rows()) == {(2, 3, 0)}
