"""The plan: every row is decided by itself, whatever the count."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from skinaug.errors import InputError
from skinaug.generate.plan import SCHEDULERS, Settings, check_settings, image_seed, plan
from skinaug.generate.predict import KINDS
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
    rows = plan(CLASSES, PROMPTS, 30_000, 0, SETTINGS, "digest")
    assert time.process_time() - started < 60, "6 x 30,000 rows take about 5 s"
    assert rows.height == 180_000
    assert rows["image_id"].n_unique() == rows["seed"].n_unique() == 180_000


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
        plan(CLASSES, PromptSet("blind", ["{label}", "a photo of skin"]), 1, 0, SETTINGS, "digest")


def test_prompts_that_name_a_class_that_the_data_lacks():
    with pytest.raises(InputError, match="rosacea"):
        plan(CLASSES, PromptSet("p", ["{label}"], labels={"rosacea": "rosacea"}), 1, 0, SETTINGS, "digest")


def test_bad_settings_are_told_at_once():
    with pytest.raises(InputError) as caught:
        check_settings(0, 0.5, 0, "plms", 0, 0)
    assert all(
        f"generate.{name}" in str(caught.value)
        for name in ("per_class", "guidance_scale", "scheduler", "batch_size")
    )
    assert check_settings(1, 2.5, 12, "dpmsolver++", 64, 1) == SETTINGS


def test_every_scheduler_name_has_a_sampler():
    assert set(SCHEDULERS) == set(KINDS)
