"""The phantom against closed forms, an independent colour engine (LittleCMS through Pillow) and its own ground truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image, ImageCms
from polars.testing import assert_frame_equal
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from skinaug.dataset.phantom import colour, fields, source
from skinaug.dataset.phantom.morphology import draw_morphology
from skinaug.dataset.phantom.parameters import SKIN_TYPES, Lesion, Photo, Picture, Site, Skin, describe
from skinaug.dataset.phantom.render import render
from skinaug.dataset.phantom.source import CONDITIONS, Phantom, PhantomMorphology
from skinaug.errors import InputError

PLAIN_PHOTO = Photo(light_slope=0.0, vignette=0.0, noise=0.0)
PROMPTS = Path(__file__).parents[2] / "conf" / "prompts" / "morphology.yaml"
TO_LAB = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
WORDS = ("skin_type", "body_site", "lesion_count", "lesion_size", "lesion_colour", "border", "surface")


def plain_picture(lesion: Lesion, ita_deg: float = 45.0) -> Picture:
    """Even skin that fills the frame, evenly lit."""
    skin = Skin("II", ita_deg, mottling=0.0, texture=0.0)
    return Picture(skin, Site("back", curvature=0.0), lesion, PLAIN_PHOTO)


def lab_by_littlecms(pixels: np.ndarray) -> np.ndarray:
    """L*a*b* [..., 3] of sRGB pixels by another implementation; 8 bits, so about 1 unit coarse."""
    codes = np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), TO_LAB))
    signed = codes[..., 1:].view(np.int8).astype(float)
    return np.concatenate([codes[..., :1] * (100 / 255), signed], axis=-1)


def measured_ita_deg(pixels: np.ndarray, clean: np.ndarray) -> float:
    lightness, _, yellowness = np.median(lab_by_littlecms(pixels)[clean], axis=0)
    return float(np.degrees(np.arctan2(lightness - 50, yellowness)))


@pytest.fixture(scope="module")
def morphology(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    root = tmp_path_factory.mktemp("morphology")
    return root, PhantomMorphology(count=220, image_size=64, seed=0, workers=1).load(root)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    root = tmp_path_factory.mktemp("phantom")
    return root, Phantom(per_class=24, image_size=48, seed=0, workers=1).load(root)


@pytest.mark.parametrize(
    ("srgb", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_has_the_published_values(srgb: tuple, lab: tuple) -> None:
    assert colour.lab(colour.srgb_to_linear(np.array(srgb) / 255)) == pytest.approx(np.array(lab), abs=0.05)


def test_melanin_path_inverts_ita() -> None:
    for angle in np.linspace(-57, 67, 30):
        assert colour.ita_deg(colour.skin_rgb(colour.melanin_of_ita(angle), 0.12)) == pytest.approx(
            angle, abs=0.5
        )


def test_even_skin_has_the_closed_form_colour() -> None:
    pixels = render(plain_picture(Lesion()), 32, np.random.default_rng(0)).pixels
    assert np.ptp(pixels.reshape(-1, 3), axis=0).max() <= 1
    linear = colour.srgb_to_linear(pixels[16, 16] / 255)
    clean = colour.skin_rgb(colour.melanin_of_ita(45.0), 0.12)
    below_shoulder = linear < 0.55
    ratio = (linear / clean)[below_shoulder]  # one exposure for all channels
    assert below_shoulder.sum() >= 2
    assert ratio == pytest.approx(ratio.mean(), rel=0.08)


def test_skin_tone_can_be_measured_back_from_pixels() -> None:
    rows = [source.morphology_picture(k, seed=5) for k in range(90)]
    measured, truth, types = [], [], []
    for picture, rng, _ in rows:
        picture = replace(picture, site=replace(picture.site, limb_half_width=0.0, hairs=0))
        rendered = render(picture, 64, rng)
        if rendered.lesion_mask.all():
            continue  # no clean skin is left to measure
        measured.append(measured_ita_deg(rendered.pixels, ~rendered.lesion_mask))
        truth.append(rendered.ita_deg)
        types.append(SKIN_TYPES.index(picture.skin.skin_type))
    kinds = np.array(types)
    ends = (kinds <= 1) | (kinds >= 4)
    assert spearmanr(measured, truth).statistic > 0.9
    assert roc_auc_score(kinds[ends] <= 1, np.array(measured)[ends]) > 0.98


def test_ita_of_each_type_lies_in_its_range(phantom: tuple[Path, pl.DataFrame]) -> None:
    for skin_type, low, high in ((kind, *limits) for kind, limits in colour.ITA_RANGE_DEG.items()):
        angles = phantom[1].filter(pl.col("skin_type") == skin_type)["ita_deg"]
        # haemoglobin, which differs from person to person, moves ITA by a few degrees
        assert angles.is_between(low - 9, high + 9).all(), skin_type


@pytest.mark.parametrize("radius", [0.08, 0.2, 0.3])
@pytest.mark.parametrize("size", [64, 160])
def test_a_round_lesion_has_the_area_of_a_circle(radius: float, size: int) -> None:
    lesion = Lesion(
        1, radius, radius_spread=0, cluster=1, elongation=1, irregularity=0, softness=0.05, erythema=1
    )
    rendered = render(plain_picture(lesion), size, np.random.default_rng(3))
    assert rendered.lesion_area_share == pytest.approx(np.pi * radius**2, rel=0.04)
    assert rendered.lesion_area_share == pytest.approx(rendered.lesion_mask.mean())


def test_a_ring_leaves_its_centre_out() -> None:
    lesion = Lesion(
        1, 0.3, radius_spread=0, cluster=1, elongation=1, irregularity=0, softness=0.05, erythema=1, ring=1
    )
    disc = render(plain_picture(replace(lesion, ring=0)), 96, np.random.default_rng(0)).lesion_mask
    ring = render(plain_picture(lesion), 96, np.random.default_rng(0)).lesion_mask
    rows, columns = np.nonzero(disc)
    centre = round(rows.mean()), round(columns.mean())
    assert disc[centre]
    assert not ring[centre]
    assert (ring <= disc).all()


@pytest.mark.parametrize("ita_deg", [60, 20, -45])
def test_chromophores_change_the_pixels_as_they_should(ita_deg: float) -> None:
    def mean_lab(**amounts: float) -> tuple[np.ndarray, float]:
        lesion = Lesion(1, 0.25, cluster=1, softness=0.05, **amounts)
        rendered = render(plain_picture(lesion, ita_deg), 64, np.random.default_rng(1))
        return lab_by_littlecms(rendered.pixels)[rendered.lesion_mask].mean(axis=0), rendered.redness

    clean, _ = mean_lab()
    red, redness = mean_lab(erythema=1.0)
    brown, _ = mean_lab(pigment=1.5)
    white, _ = mean_lab(pigment_loss=1.0)
    assert red[0] < clean[0] - 2
    assert brown[0] < clean[0] - 2
    assert white[0] > clean[0] + 2
    if ita_deg > 0:  # on dark skin erythema is darker rather than redder
        assert red[1] > clean[1] + 5
        assert redness == pytest.approx(red[1] - clean[1], rel=0.5)


def test_distance_to_a_circle_is_exact() -> None:
    x, y = fields.grid(40)
    circles = np.array([[0.1, -0.2, 0.15, 1, 0.3], [-0.3, 0.2, 0.05, 1, 0]])
    each = np.stack([np.hypot(x - cx, y - cy) - radius for cx, cy, radius, _, _ in circles])
    distance, index = fields.nearest_blob(x, y, circles)
    np.testing.assert_allclose(distance, each.min(axis=0), atol=1e-5)
    np.testing.assert_array_equal(index, each.argmin(axis=0))


def test_noise_is_normal_and_the_pair_independent() -> None:
    rng = np.random.default_rng(0)
    pairs = np.array([fields.noise_pair(rng, 64, 9.0, 2.0) for _ in range(40)])
    assert pairs.std() == pytest.approx(1, abs=0.03)
    assert abs(np.corrcoef(pairs[:, 0].ravel(), pairs[:, 1].ravel())[0, 1]) < 0.03


def test_size_changes_detail_and_not_the_scene() -> None:
    for k in range(6):
        picture, _, _ = source.morphology_picture(k, seed=1)
        picture = replace(picture, photo=replace(picture.photo, noise=0.0))
        small, large = (render(picture, size, np.random.default_rng(k)).pixels for size in (64, 256))
        reduced = np.asarray(Image.fromarray(large).reduce(4), float)
        assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("few", "more"),
    [
        (Phantom(3, 32, seed=0, workers=1), Phantom(7, 32, seed=0, workers=1)),
        (PhantomMorphology(4, 32, seed=0, workers=1), PhantomMorphology(9, 32, seed=0, workers=1)),
    ],
)
def test_a_picture_does_not_depend_on_the_count(tmp_path: Path, few: Phantom, more: Phantom) -> None:
    short, long = few.load(tmp_path / "few"), more.load(tmp_path / "more")
    assert_frame_equal(short, long.join(short.select("image_id"), on="image_id", how="semi"))
    for path in short["path"]:
        assert (tmp_path / "few" / path).read_bytes() == (tmp_path / "more" / path).read_bytes()


def test_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BLOCK", 3)
    alone = Phantom(5, 32, seed=2, workers=1).load(tmp_path / "alone")
    together = Phantom(5, 32, seed=2, workers=2).load(tmp_path / "together")
    assert_frame_equal(alone, together)
    for path in alone["path"]:
        assert (tmp_path / "alone" / path).read_bytes() == (tmp_path / "together" / path).read_bytes()


def test_seeds_differ(tmp_path: Path) -> None:
    zero, one = (Phantom(2, 32, seed, workers=1).load(tmp_path / str(seed)) for seed in (0, 1))
    path = zero["path"][0]
    assert (tmp_path / "0" / path).read_bytes() != (tmp_path / "1" / path).read_bytes()
    assert zero["ita_deg"].to_list() != one["ita_deg"].to_list()


def test_patients_share_who_they_are(phantom: tuple[Path, pl.DataFrame]) -> None:
    root, table = phantom
    by_patient = table.group_by("group_id").agg(
        pl.len().alias("pictures"), pl.col("skin_type", "ita_deg", "age", "sex", "label").n_unique()
    )
    assert by_patient["pictures"].is_between(1, 4).all()
    assert set(by_patient["pictures"]) == {1, 2, 3, 4}
    assert (by_patient.select("skin_type", "ita_deg", "age", "sex", "label").to_numpy() == 1).all()
    contents = {(root / path).read_bytes() for path in table["path"]}
    assert len(contents) == len(table)  # pictures of one patient are not copies


def test_phantom_is_balanced_and_every_lesion_shows(phantom: tuple[Path, pl.DataFrame]) -> None:
    root, table = phantom
    assert dict(table["label"].value_counts().iter_rows()) == dict.fromkeys(CONDITIONS, 24)
    assert set(table["skin_type"]) == set(SKIN_TYPES)
    assert table["lesion_area_share"].is_between(0.0005, 0.95).all()
    with Image.open(root / table["path"][0]) as image:
        assert (image.size, image.mode) == ((48, 48), "RGB")


def test_morphology_covers_every_word_of_its_prompts(morphology: tuple[Path, pl.DataFrame]) -> None:
    table = morphology[1]
    prompts = yaml.safe_load(PROMPTS.read_text())
    for slot in WORDS:
        assert set(table[slot].drop_nulls()) == {str(value) for value in prompts["attributes"][slot]}
    assert 0.04 < (table["lesion_count"] == "no").mean() < 0.18
    assert set(table["label"]) == {"skin"}
    text = PROMPTS.read_text().lower()
    assert not [name for name in CONDITIONS if name in text]


def test_pictures_without_lesions_say_nothing_of_lesions(morphology: tuple[Path, pl.DataFrame]) -> None:
    clear = morphology[1].filter(pl.col("lesion_count") == "no")
    assert (clear["lesion_area_share"] == 0).all()
    assert (clear["redness"] == 0).all()
    assert (
        clear.select("lesion_size", "lesion_colour", "border", "surface").null_count().row(0)
        == (len(clear),) * 4
    )


def test_words_agree_with_the_ground_truth(morphology: tuple[Path, pl.DataFrame]) -> None:
    table = morphology[1].filter(pl.col("lesion_count") == "one")
    area = dict(table.group_by("lesion_size").agg(pl.col("lesion_area_share").median()).iter_rows())
    assert area["tiny"] < area["small"] < area["medium-sized"] < area["large"]
    fair = morphology[1].filter(pl.col("skin_type").is_in(["I", "II", "III"]))
    redness = dict(fair.group_by("lesion_colour").agg(pl.col("redness").median()).iter_rows())
    assert redness["red"] > redness["pink"] > redness["white"]


def test_renders_any_size_and_stays_in_range() -> None:
    rng = np.random.default_rng(0)
    for size in (16, 33, 64, 100, 512):
        picture = draw_morphology(rng)
        rendered = render(picture, size, rng)
        assert rendered.pixels.shape == (size, size, 3)
        assert rendered.pixels.dtype == np.uint8
        assert 0 <= rendered.lesion_area_share <= 1
        assert describe(picture)["skin_type"] == picture.skin.skin_type


@pytest.mark.parametrize(
    "make", [lambda: Phantom(0, 64, 0), lambda: Phantom(5, 8, 0), lambda: PhantomMorphology(-1, 64, 0)]
)
def test_bad_sizes_are_refused(make) -> None:
    with pytest.raises(InputError, match="must be at least"):
        make()


def test_another_clinic_has_other_skin_and_another_light(tmp_path: Path):
    usual = Phantom(4, 32, seed=0, workers=1).load(tmp_path / "usual")
    other = Phantom(4, 32, seed=0, workers=1, skin_types=["V", "VI"], exposure=-2).load(tmp_path / "other")
    assert set(other["skin_type"]) == {"V", "VI"}
    assert usual.select("path", "label", "group_id").equals(other.select("path", "label", "group_id"))
    light = [
        np.mean([np.asarray(Image.open(tmp_path / name / path)) for path in usual["path"]])
        for name in ("usual", "other")
    ]
    assert light[1] < light[0] / 2
    with pytest.raises(InputError, match="choose from I, II"):
        Phantom(4, 32, seed=0, skin_types=["VII"])
