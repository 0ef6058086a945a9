"""Measures of skin photographs against the truth about phantoms, drawn pictures and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from phantoms import phantom_manifest
from scipy import ndimage
from scipy.stats import spearmanr

from skinaug.dataset.phantom.source import Phantom, PhantomMorphology
from skinaug.errors import InputError
from skinaug.images import load_pixels, open_image, square
from skinaug.manifest import Manifest
from skinaug.metrics.colour import lab, lab_of_pixels
from skinaug.metrics.skin import COLUMNS, TONES, find_regions, measure, realised, tone_of_ita

SKIN = (222, 172, 142)  # L* 74, a* 14, b* 22: typology angle 47 degrees, light


def plain_skin(size: int = 64, colour: tuple[int, int, int] = SKIN, noise: float = 1.0) -> np.ndarray:
    """float [size, size, 3] in levels of 0..255."""
    return np.array(colour) + np.random.default_rng(0).normal(0, noise, (size, size, 1))


def with_disc(
    picture: np.ndarray, colour: tuple[int, int, int], radius: float, x: float = 0.5, y: float = 0.5
) -> np.ndarray:
    """A disc of a colour; lengths are shares of the side."""
    axis = (np.arange(len(picture)) + 0.5) / len(picture)
    inside = (axis[:, None] - y) ** 2 + (axis[None] - x) ** 2 < radius**2
    return np.where(inside[..., None], colour, picture)


def measure_one(picture: np.ndarray) -> dict[str, float]:
    return measure(np.clip(np.round(picture), 0, 255).astype(np.uint8)[None]).row(0, named=True)


@pytest.fixture(scope="module")
def conditions(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return phantom_manifest(
        Phantom(per_class=40, image_size=64, seed=3, workers=1), tmp_path_factory.mktemp("conditions")
    )


@pytest.fixture(scope="module")
def morphology(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return phantom_manifest(
        PhantomMorphology(count=400, image_size=64, seed=4, workers=1), tmp_path_factory.mktemp("morphology")
    )


def agreement(manifest: Manifest) -> dict[str, float]:
    """Rank correlations with the truth; shares of tones within one and two steps of the skin type."""
    table, measured = manifest.table, measure(load_pixels(manifest, 64))
    lesions = (table["lesion_area_share"] > 0).to_numpy()
    steps = np.abs(measured["tone"].to_numpy() - [TONES.index(kind) + 1 for kind in table["skin_type"]])
    return {
        name: spearmanr(measured[name].to_numpy()[rows], table[name].to_numpy()[rows]).statistic
        for name, rows in (
            ("ita_deg", slice(None)),
            ("lesion_area_share", slice(None)),
            ("redness", lesions),
        )
    } | {"one step": float(np.mean(steps <= 1)), "two steps": float(np.mean(steps <= 2))}


def test_measures_agree_with_the_truth_about_conditions(conditions: Manifest):
    found = agreement(conditions)
    assert found["ita_deg"] > 0.85
    assert found["lesion_area_share"] > 0.68
    assert found["redness"] > 0.68
    assert found["one step"] > 0.87
    assert found["two steps"] > 0.95


def test_measures_agree_with_the_truth_about_morphology(morphology: Manifest):
    found = agreement(morphology)
    assert found["ita_deg"] > 0.91
    assert found["lesion_area_share"] > 0.73
    assert found["redness"] > 0.77
    assert found["one step"] > 0.88
    assert found["two steps"] > 0.97


def test_tones_are_the_classes_of_the_typology_angle():
    angles = np.array([70, 55.1, 55, 41.1, 41, 28.1, 28, 10.1, 10, -29.9, -30, -60])
    assert tone_of_ita(angles).tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


@pytest.mark.parametrize("colour", [SKIN, (240, 205, 190), (150, 100, 75), (90, 55, 40), (60, 38, 28)])
def test_the_typology_angle_of_plain_skin(colour: tuple[int, int, int]):
    lightness, _, b = lab(np.array(colour) / 255)
    expected = np.degrees(np.arctan((lightness - 50) / b))
    found = measure_one(with_disc(plain_skin(colour=colour), (120, 30, 30), 0.2))
    assert found["ita_deg"] == pytest.approx(expected, abs=1.5)
    assert found["tone"] == tone_of_ita(np.array([expected]))[0]


@pytest.mark.parametrize("size", [32, 64, 100, 224])
def test_a_disc_is_the_lesion_at_any_size(size: int):
    red = (190, 90, 90)
    found = measure_one(with_disc(plain_skin(size), red, 0.2, 0.45, 0.55))
    assert found["lesion_area_share"] == pytest.approx(np.pi * 0.2**2, rel=0.15)
    difference = lab(np.array(red) / 255)[1] - lab(np.array(SKIN) / 255)[1]
    assert found["redness"] == pytest.approx(difference, rel=0.15)


def test_skin_without_lesions_has_none():
    """Otsu's threshold alone finds a lesion in noise."""
    shade = np.linspace(0.75, 1.0, 64)[:, None, None]
    for picture in (plain_skin(noise=3), plain_skin(noise=3) * shade):
        found = measure_one(picture)
        assert found["lesion_area_share"] < 0.005
        assert abs(found["redness"]) < 3


def test_backdrop_is_neither_skin_nor_lesion():
    picture = with_disc(plain_skin(), (120, 60, 50), 0.12)
    picture[:, :16] = (40, 90, 160)
    share = np.pi * 0.12**2 / 0.75
    found = measure_one(picture)
    assert found["lesion_area_share"] == pytest.approx(share, rel=0.15)
    assert found["tone"] == measure_one(plain_skin())["tone"]
    regions = find_regions(lab_of_pixels(np.clip(picture, 0, 255).astype(np.uint8)[None]))
    assert not regions.skin[0, :, :15].any()
    assert not regions.lesion[0, :, :15].any()


def test_sharpness_falls_with_blur_and_not_with_contrast(conditions: Manifest):
    pixels = load_pixels(conditions, 64)[::6]
    blurred = np.stack([ndimage.gaussian_filter(picture, (1, 1, 0)) for picture in pixels])
    mean = pixels.mean((1, 2), keepdims=True)
    flat = np.round(0.6 * pixels + 0.4 * mean).astype(np.uint8)
    noisy = np.clip(pixels + np.random.default_rng(0).normal(0, 25, pixels.shape), 0, 255).astype(np.uint8)
    sharp = measure(pixels)["sharpness"]
    assert (measure(blurred)["sharpness"] < sharp - 0.3).all()
    assert (measure(noisy)["sharpness"] > sharp).mean() > 0.95
    assert (measure(flat)["sharpness"] - sharp).abs().median() < 0.05


def test_plain_statistics():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 12, 3), np.uint8)
    pixels[0, 0] = 0
    pixels[0, 1] = 255
    colours = lab(pixels / 255)
    found = measure(pixels)
    np.testing.assert_allclose(found["lightness"], colours[..., 0].mean((1, 2)), atol=1e-2)
    np.testing.assert_allclose(found["contrast"], colours[..., 0].std((1, 2)), atol=1e-2)
    np.testing.assert_allclose(found["a"], colours[..., 1].mean((1, 2)), atol=1e-2)
    np.testing.assert_allclose(found["b"], colours[..., 2].mean((1, 2)), atol=1e-2)
    np.testing.assert_allclose(found["clipped"], np.isin(pixels, (0, 255)).any(3).mean((1, 2)))


def test_pictures_do_not_influence_each_other(conditions: Manifest):
    pixels = load_pixels(conditions, 64)[:30]
    alone = pl.concat([measure(picture[None]) for picture in pixels])
    together = measure(pixels)
    for name in COLUMNS:
        np.testing.assert_allclose(together[name], alone[name], atol=2e-3, err_msg=name)


def test_flat_pictures_have_finite_measures():
    levels = np.array([0, 128, 255], np.uint8)
    flat = np.broadcast_to(levels[:, None, None, None], (3, 64, 64, 3))
    found = measure(flat)
    assert np.isfinite(found.to_numpy()).all()
    assert found["clipped"].to_list() == [1, 0, 1]
    assert found["lesion_area_share"].to_list() == [0, 0, 0]
    assert found["contrast"].to_list() == pytest.approx([0, 0, 0], abs=1e-3)


def test_no_pictures_give_no_rows():
    found = measure(np.empty((0, 64, 64, 3), np.uint8))
    assert found.columns == list(COLUMNS)
    assert found.height == 0


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 64, 64), np.uint8),
        np.zeros((2, 64, 64, 3)),
        np.zeros((2, 4, 64, 3), np.uint8),
        np.zeros((2, 64, 64, 4), np.uint8),
    ],
)
def test_other_arrays_are_refused(pixels: np.ndarray):
    with pytest.raises(InputError, match="must be uint8"):
        measure(pixels)


def test_realised_has_the_manifests_rows_in_order(conditions: Manifest, tmp_path: Path, monkeypatch):
    part = conditions.with_table(conditions.table[20:0:-1])
    expected = measure(load_pixels(part, 32))
    monkeypatch.setattr("skinaug.metrics.skin.LOADED_PIXELS", 7 * 32**2)  # several loads
    found = realised(part, 32, tmp_path / "cache.sqlite")
    assert found["image_id"].to_list() == part.table["image_id"].to_list()
    assert found.columns == ["image_id", *COLUMNS]
    for name in COLUMNS:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-3, err_msg=name)


def test_photographs_are_measured_as_the_docstring_says(pad_ufes_20: Path):
    """Tone is not to be trusted there, and a black lesion is darker and less red than a red one."""
    table = pl.read_csv(pad_ufes_20 / "metadata.csv", infer_schema=False)
    stems = {Path(name).stem: row for row, name in enumerate(table["img_id"])}
    paths = sorted((pad_ufes_20 / "images").glob("*.jpg"))[::5]
    found = measure(np.stack([square(open_image(path), 64) for path in paths]))
    about = table[[stems[path.stem] for path in paths]]
    assert np.isfinite(found.to_numpy()).all()
    share = found["lesion_area_share"]
    assert 0.08 < share.median() < 0.22
    assert (share > 0.01).mean() > 0.97
    tone = pl.Series(about["fitspatrick"].replace("", None)).cast(pl.Float64)
    near = ((found["tone"] - tone).abs() <= 1).drop_nulls().mean()
    assert 0.45 < near < 0.75
    redness = {
        label: found.filter(about["diagnostic"] == label)["redness"].mean() for label in ("BCC", "SEK")
    }
    assert redness["BCC"] > redness["SEK"] + 2
