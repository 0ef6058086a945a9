"""The plan: every row is decided by itself, whatever the count."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from skinaug.errors import InputError
from skinaug.generate.plan import (
    check_real,
    check_templates,
    choose_parents,
    image_seed,
    next_seed,
    plan,
    with_paths,
)
from skinaug.generate.settings import Settings
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet

CLASSES = {label: f"<{label}>" for label in ("acne", "eczema", "psoriasis", "tinea", "vitiligo", "nevus")}
PROMPTS = PromptSet(
    "attributes",
    ["a photo of {label}[ on the {body_site}][, skin type {skin_type}][, {age} years old]"],
    {
        "body_site": {"face": 3, "arm": 1},
        "skin_type": dict.fromkeys(("I", "II", "III"), 1),
        "age": {30: 1, 60: 1},
    },
)
SETTINGS = Settings(2.5, 12, "dpmsolver++", 64)


def test_the_studys_plan_is_made_in_seconds():
    started = time.process_time()
    rows = with_paths(plan(CLASSES, PROMPTS, 30_000, 0, SETTINGS, "digest"), "png")
    assert time.process_time() - started < 20, "6 x 30,000 rows take about 3 s"
    assert rows.height == 180_000
    assert rows["image_id"].n_unique() == rows["seed"].n_unique() == 180_000
    folders = rows["path"].str.head(len("images/0000")).value_counts()
    assert folders.height == 180
    assert folders["count"].unique().to_list() == [1000]


def test_rows_do_not_depend_on_the_count():
    few, many = (plan(CLASSES, PROMPTS, n, 0, SETTINGS, "digest") for n in (3, 10))
    assert many.group_by("label", maintain_order=True).head(3).select(few.columns).equals(few)


def test_a_row_says_what_its_prompt_says():
    for row in plan(CLASSES, PROMPTS, 5, 0, SETTINGS, "digest").iter_rows(named=True):
        wanted = f"a photo of <{row['label']}> on the {row['body_site']}, skin type {row['skin_type']}, {row['age']} years old"
        assert row["prompt"] == wanted
        assert row["prompt_set"] == "attributes"


@pytest.mark.parametrize(
    "change",
    [
        {"settings": replace(SETTINGS, guidance_scale=3.0)},
        {"settings": replace(SETTINGS, num_inference_steps=13)},
        {"settings": replace(SETTINGS, scheduler="ddim")},
        {"settings": replace(SETTINGS, image_size=128)},
        {"settings": replace(SETTINGS, guidance_interval=(0.0, 0.9))},
        {"settings": replace(SETTINGS, mode="image", strength=0.5)},
        {"weights": "other"},
        {"seed": 1},
        {"phrases": {"acne": "acne vulgaris"}},
    ],
    ids=str,
)
def test_all_that_decides_a_picture_changes_its_id(change: dict):
    same = {
        "phrases": {"acne": "acne"},
        "prompts": PROMPTS,
        "per_class": 20,
        "seed": 0,
        "settings": SETTINGS,
        "weights": "w",
    }
    one, other = plan(**same), plan(**(same | change))
    assert one["image_id"].to_list() == plan(**same)["image_id"].to_list()
    assert not set(one["image_id"]) & set(other["image_id"])


def test_seeds_are_distinct_and_fit_a_double():
    seeds = [image_seed(run, label, i) for run in (0, 1) for label in CLASSES for i in range(1000)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert sum(seed > 2**52 for seed in seeds) / len(seeds) == pytest.approx(0.5, abs=0.03)


def test_prompts_that_cannot_tell_classes_apart():
    with pytest.raises(InputError, match="same words"):
        check_templates(PromptSet("blind", ["{label}", "a photo of skin"]), tuple(CLASSES))


def test_prompts_that_name_a_class_that_the_data_lacks():
    with pytest.raises(InputError, match="rosacea"):
        check_templates(PromptSet("p", ["{label}"], labels={"rosacea": "rosacea"}), tuple(CLASSES))


def test_redraws_have_seeds_of_their_own():
    seeds = {next_seed(seed, attempt) for seed in range(100) for attempt in (1, 2, 3)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**53 for seed in seeds)


@pytest.fixture
def real(make_manifest) -> Manifest:
    """Five training images of acne, three of nevus."""
    return make_manifest([{"label": label} for label in ["acne"] * 5 + ["nevus"] * 3])


IMAGE = replace(SETTINGS, mode="image", strength=0.5)


def test_parents_cycle_fairly_within_their_class(real: Manifest):
    table = plan({"acne": "acne", "nevus": "nevus"}, PROMPTS, 13, 0, IMAGE, "w", real)
    parents = table.explode("parents").join(real.table, left_on="parents", right_on="image_id", how="left")
    assert (parents["label"] == parents["label_right"]).all()
    for label, counts in (("acne", {2, 3}), ("nevus", {4, 5})):
        used = parents.filter(parents["label"] == label)["parents"].value_counts()["count"]
        assert set(used) == counts
    first = table.filter(table["label"] == "acne")["parents"].list.first().to_list()
    assert len(set(first[:5])) == len(set(first[5:10])) == 5
    assert first[:5] != first[5:10], "each round has an order of its own"


def test_a_parent_does_not_depend_on_the_count_or_the_files_order(real: Manifest):
    many = choose_parents(real, "acne", 12, 0)
    assert choose_parents(real, "acne", 7, 0) == many[:7]
    assert choose_parents(real.with_table(real.table.reverse()), "acne", 12, 0) == many
    assert choose_parents(real, "acne", 12, 1) != many


def test_the_parents_content_decides_the_id(real: Manifest):
    edited = real.with_table(real.table.with_columns(sha256=real.table["sha256"].str.reverse()))
    one, other = (plan({"acne": "acne"}, PROMPTS, 9, 0, IMAGE, "w", m) for m in (real, edited))
    assert one["parents"].to_list() == other["parents"].to_list()
    assert not set(one["image_id"]) & set(other["image_id"])
    assert not plan({"acne": "acne"}, PROMPTS, 9, 0, SETTINGS, "w")["parents"].list.len().sum()


def test_real_images_that_image_mode_cannot_start_from(real: Manifest, make_manifest, tmp_path):
    check_real(IMAGE, real, ("acne", "nevus"))
    check_real(SETTINGS, None, ("acne", "nevus"))
    with pytest.raises(InputError, match="none were given"):
        check_real(IMAGE, None, ("acne",))
    with pytest.raises(InputError, match=r"no training image.*tinea, rosea"):
        check_real(IMAGE, real, ("acne", "tinea", "rosea"))
    other = make_manifest([{"label": "acne", "split": "test"}, {"label": "acne"}], root=tmp_path / "other")
    with pytest.raises(InputError, match=r"(?s)1 of those given are not.*i0: real, split test"):
        check_real(IMAGE, other, ("acne",))
