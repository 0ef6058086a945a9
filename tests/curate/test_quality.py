"""The quality filter: planted faults are refused for the right reason, and real pictures pass at the stated rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from phantoms import phantom_manifest
from PIL import Image
from scipy import ndimage

from skinaug.curate.filters.quality import FAULTY_SIDES, Quality
from skinaug.dataset.phantom.source import Phantom
from skinaug.errors import InputError
from skinaug.images import load_pixels
from skinaug.manifest import Manifest
from skinaug.metrics.skin import measure
from skinaug.store.digest import sha256_file

SIZE = 64
FILTER = Quality(SIZE)


def no_trainer() -> None:
    raise AssertionError("measuring needs no network")


def score(pool: Manifest, real: Manifest) -> pl.DataFrame:
    return FILTER.score(pool, real, trainer=no_trainer, cache=None)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Manifest]:
    """Phantoms of half of the patients, and of the others."""
    manifest = phantom_manifest(
        Phantom(per_class=100, image_size=SIZE, seed=11, workers=1), tmp_path_factory.mktemp("phantoms")
    )
    held_out = pl.col("group_id").str.extract(r"(\d+)$").cast(pl.Int32) % 2 == 1
    return tuple(manifest.with_table(manifest.table.filter(part)) for part in (~held_out, held_out))


@pytest.fixture(scope="module")
def held_out_scores(patients: tuple[Manifest, Manifest]) -> pl.DataFrame:
    train, held_out = patients
    return score(held_out, train)


@pytest.fixture(scope="module")
def good(patients: tuple[Manifest, Manifest], held_out_scores: pl.DataFrame) -> np.ndarray:
    """Twenty-four held-out pictures that pass."""
    held_out = patients[1]
    kept = FILTER.keep(held_out_scores)["keep"]
    return load_pixels(held_out.with_table(held_out.table.filter(kept)), SIZE)[::9][:24]


def as_pool(pictures: np.ndarray, folder: Path) -> Manifest:
    rows = []
    for number, picture in enumerate(pictures):
        path = folder / f"{number}.png"
        Image.fromarray(np.clip(np.round(picture), 0, 255).astype(np.uint8)).save(path)
        rows.append(
            {"image_id": f"p{number}", "path": path.name, "group_id": path.name, "sha256": sha256_file(path)}
        )
    table = pl.DataFrame(rows).with_columns(
        label=pl.lit("skin"),
        split=pl.lit("train"),
        source=pl.lit("real"),
        width=pl.lit(pictures.shape[2], pl.Int32),
        height=pl.lit(pictures.shape[1], pl.Int32),
    )
    return Manifest(table, folder, ("skin",))


FAULTS = {  # name: (how, reason, share of the pictures that must be given this reason)
    "blurred": (
        lambda pictures: np.stack([ndimage.gaussian_filter(picture, (1.2, 1.2, 0)) for picture in pictures]),
        "blurred",
        0.9,
    ),
    "white": (lambda pictures: np.full_like(pictures, 255), "over-exposed", 1),
    "nearly white": (lambda pictures: np.full_like(pictures, 250), "over-exposed", 1),
    "black": (lambda pictures: np.zeros_like(pictures), "under-exposed", 1),
    "dark": (lambda pictures: 0.25 * pictures, "under-exposed", 0.9),
    "grey": (lambda pictures: np.full_like(pictures, 128), "blank", 1),
    "green": (lambda pictures: pictures * np.array([0.6, 1, 0.6]), "colour cast", 0.9),
    "over-exposed": (lambda pictures: 2.5 * pictures, "over-exposed", 0.7),
    "noisy": (
        lambda pictures: pictures + np.random.default_rng(0).normal(0, 30, pictures.shape),
        "noisy",
        0.8,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_refused_with_their_reason(
    fault: str, patients: tuple[Manifest, Manifest], good: np.ndarray, tmp_path: Path
):
    spoil, reason, share = FAULTS[fault]
    decided = FILTER.keep(score(as_pool(spoil(good), tmp_path), patients[0]))
    assert not decided["keep"].any()
    assert (decided["reason"] == reason).mean() >= share


def test_good_pictures_pass_without_a_reason(
    patients: tuple[Manifest, Manifest], good: np.ndarray, tmp_path: Path
):
    decided = FILTER.keep(score(as_pool(good, tmp_path), patients[0]))
    assert decided["keep"].all()
    assert decided["reason"].null_count() == len(good)
    assert decided.schema == {"keep": pl.Boolean, "reason": pl.String}


@pytest.mark.parametrize("rate", [0.9, 0.98])
@pytest.mark.parametrize("measure_name", FAULTY_SIDES)
def test_the_stated_share_of_other_patients_passes(
    measure_name: str, rate: float, patients: tuple[Manifest, Manifest], held_out_scores: pl.DataFrame
):
    """Within three deviations: of a binomial count, of the limit's own sampling, with pictures of a patient alike."""
    train, held_out = patients
    passed = FILTER.keep(held_out_scores, {measure_name: rate})["keep"].mean()
    pictures_a_patient = 2.5
    deviation = np.sqrt(rate * (1 - rate) * pictures_a_patient * (1 / len(train) + 1 / len(held_out)))
    assert passed >= rate - 3 * deviation
    if measure_name != "clipped":  # most pictures have no clipped pixel: a tie that all pass
        assert passed <= rate + 3 * deviation


def test_all_measures_together_pass_as_many_as_the_docstring_says(held_out_scores: pl.DataFrame):
    assert 0.83 < FILTER.keep(held_out_scores)["keep"].mean() < 0.95


def test_scores_are_places_among_the_real_images(patients: tuple[Manifest, Manifest]):
    train, held_out = patients
    pool = held_out.with_table(held_out.table[:20])
    scores = score(pool, train)
    own, real = measure(load_pixels(pool, SIZE)), measure(load_pixels(train, SIZE))
    assert scores["image_id"].to_list() == pool.table["image_id"].to_list()
    for name in FAULTY_SIDES:
        value, reference = own[name].to_numpy()[:, None], real[name].to_numpy()
        np.testing.assert_allclose(scores[name], value[:, 0], atol=2e-3)
        np.testing.assert_allclose(scores[f"{name}_below"], (reference <= value).mean(1), atol=0.01)
        np.testing.assert_allclose(scores[f"{name}_above"], (reference >= value).mean(1), atol=0.01)


def row(**failed: float) -> pl.DataFrame:
    """One picture in the middle of every distribution, but for the given places."""
    sides = {f"{name}_{side}": 0.5 for name in FAULTY_SIDES for side in ("below", "above")}
    return pl.DataFrame([sides | failed])


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("sharpness_below", "blurred"),
        ("sharpness_above", "noisy"),
        ("lightness_below", "under-exposed"),
        ("lightness_above", "over-exposed"),
        ("contrast_below", "blank"),
        ("contrast_above", None),
        ("clipped_above", "clipped"),
        ("clipped_below", None),
        ("a_below", "colour cast"),
        ("a_above", "colour cast"),
        ("b_below", "colour cast"),
        ("b_above", "colour cast"),
    ],
)
def test_each_side_has_its_reason(place: str, reason: str | None):
    decided = FILTER.keep(row(**{place: 0.0}))
    assert decided.row(0) == (reason is None, reason)


def test_two_sided_measures_share_the_rest():
    assert FILTER.keep(row(lightness_below=0.011), 0.98)["keep"][0]
    assert not FILTER.keep(row(lightness_below=0.009), 0.98)["keep"][0]
    assert FILTER.keep(row(contrast_below=0.021), 0.98)["keep"][0]
    assert not FILTER.keep(row(contrast_below=0.019), 0.98)["keep"][0]


def test_a_mapping_judges_only_what_it_names():
    scores = row(sharpness_below=0.0, a_above=0.015)
    assert FILTER.keep(scores, {"a": 0.98})["keep"][0]
    assert FILTER.keep(scores, {"a": 0.96})["reason"][0] == "colour cast"
    assert FILTER.keep(scores, {"sharpness": 1.0})["keep"][0]
    assert FILTER.keep(scores, {})["keep"][0]


@pytest.mark.parametrize(
    ("rates", "message"),
    [(1.5, "no share"), ({"a": -0.1}, "of a is -0.1"), ({"blank": 0.9}, "'blank', which is not measured")],
)
def test_bad_thresholds_are_refused(rates: object, message: str):
    with pytest.raises(InputError, match=message):
        FILTER.keep(row(), rates)


def test_nothing_real_is_refused(patients: tuple[Manifest, Manifest]):
    train, held_out = patients
    with pytest.raises(InputError, match="there are none"):
        score(held_out, train.with_table(train.table.clear()))


def test_the_preset_matches_the_class():
    preset = yaml.safe_load((Path(__file__).parents[2] / "conf/filter/quality.yaml").read_text())["quality"]
    assert FILTER.keep(row(), **preset["keep"])["keep"].all()
    assert preset["scorer"]["_target_"] == f"{Quality.__module__}.{Quality.__qualname__}"
    assert Quality.exposure == "real"
