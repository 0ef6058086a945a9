"""Prompt sets: what they say, how often, and what they refuse."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.stats import chisquare

from skinaug.errors import InputError
from skinaug.prompts import PromptSet, preview, slots

CONF = Path(__file__).parents[1] / "conf" / "prompts"
SITES = {"face": 3, "arm": 1, "leg": 0}


def sites(**changes) -> PromptSet:
    values = {"templates": ["a photo of {label}[ on the {body_site}]"], "attributes": {"body_site": SITES}}
    return PromptSet("sites", **(values | changes))


@given(
    label=st.text(min_size=1, max_size=5),
    seed=st.integers(0, 2**63),
    few=st.integers(0, 20),
    many=st.integers(0, 40),
)
def test_prompt_i_does_not_depend_on_n(label: str, seed: int, few: int, many: int):
    longer, shorter = max(few, many), min(few, many)
    assert sites().sample(label, longer, seed)[:shorter] == sites().sample(label, shorter, seed)


def test_seed_zero_differs_from_others_and_classes_from_each_other():
    drawn = [sites().sample(label, 50, seed, "it") for label in ("acne", "nevus") for seed in (0, 1)]
    assert all(drawn[i] != drawn[j] for i in range(4) for j in range(i))


def test_values_come_as_often_as_their_weights():
    counts = Counter(row["body_site"] for row in sites().sample("acne", 4000, 0))
    assert set(counts) == {"face", "arm"}, "a weight of 0 is never drawn"
    assert chisquare([counts["face"], counts["arm"]], [3000, 1000]).pvalue > 1e-3


def test_editing_an_attribute_leaves_the_others_draws():
    template = "{label} {body_site}[, {skin_type}]"
    one = sites(templates=[template], attributes={"body_site": SITES, "skin_type": {"I": 1, "II": 1}})
    other = sites(templates=[template], attributes={"body_site": SITES, "skin_type": {"V": 1, "VI": 3}})
    drawn = [[row["body_site"] for row in prompts.sample("acne", 50, 0)] for prompts in (one, other)]
    assert drawn[0] == drawn[1]


def test_only_what_the_prompt_says_is_recorded():
    prompts = sites(templates=["{label}", "{label} on the {body_site}"])
    for row in prompts.sample("acne", 100, 0):
        assert ("body_site" in row) == (" on the " in row["prompt"])
        assert row["prompt"] == ("acne on the " + row["body_site"] if "body_site" in row else "acne")


def test_the_empty_value_is_left_unsaid():
    rows = sites(attributes={"body_site": {"face": 1, "": 1}}).sample("acne", 50, 0)
    assert {row["prompt"]: row.get("body_site") for row in rows} == {
        "a photo of acne": None,
        "a photo of acne on the face": "face",
    }


def test_synonyms_are_drawn_and_the_value_stays_canonical():
    prompts = sites(
        attributes={"body_site": {"face": 1}}, synonyms={"face": ["cheek", "forehead"], "acne": "spots"}
    )
    rows = prompts.sample("acne", 60, 0)
    assert {row["prompt"] for row in rows} == {
        "a photo of spots on the cheek",
        "a photo of spots on the forehead",
    }
    assert {row["body_site"] for row in rows} == {"face"}


def test_what_stands_for_a_class():
    prompts = PromptSet(
        "p",
        ["{label}"],
        synonyms={"NEV": ["nevus"], "BCC": ["carcinoma"]},
        labels={"BCC": "basal cell carcinoma"},
    )
    said = {label: prompts.sample(label, 1, 0)[0]["prompt"] for label in ("BCC", "NEV", "skin_tag")}
    assert said == {"BCC": "basal cell carcinoma", "NEV": "nevus", "skin_tag": "skin tag"}
    assert {label: prompts.phrase(label) for label in said} == said
    assert prompts.sample("BCC", 1, 0, "<BCC>")[0]["prompt"] == "<BCC>"


def test_captions_say_what_is_known_of_the_image():
    prompts = sites(
        templates=["{label}[, {body_site}][, {age} years]"],
        attributes={"body_site": {}, "age": {}} | {"body_site": {"arm": 1}, "age": {50: 1}},
    )
    rng = np.random.default_rng(0)
    assert (
        prompts.caption({"label": "nevus", "body_site": "upper_back", "age": 54.0}, rng)
        == "nevus, upper back, 54 years"
    )
    assert prompts.caption({"label": "nevus", "body_site": None, "age": float("nan")}, rng) == "nevus"
    assert prompts.caption({"label": "nevus"}, rng, phrase="<nevus>") == "<nevus>"


def test_captions_use_only_templates_that_fit():
    prompts = sites(templates=["{label} on the {body_site}", "{label}"])
    rng = np.random.default_rng(0)
    assert {prompts.caption({"label": "acne"}, rng) for _ in range(20)} == {"acne"}
    with pytest.raises(InputError, match="no template fits"):
        sites(templates=["{label} on the {body_site}"]).caption({"label": "acne"}, rng)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": []}, "no templates"),
        ({"templates": "a photo of {label}"}, "must be a list"),
        ({"templates": [" "]}, "must be a text"),
        ({"templates": ["{label} on {bodysite}"]}, "did you mean {body_site}"),
        ({"templates": ["{label} [on {body_site}"]}, "brackets"),
        ({"templates": ["{label"]}, "braces"),
        ({"templates": ["{label}[ close-up]"]}, "without a slot"),
        ({"attributes": {"body_site": {"face": -1}}}, "numbers >= 0"),
        ({"attributes": {"body_site": {"face": float("nan")}}}, "numbers >= 0"),
        ({"attributes": {"body_site": {"face": 0}}}, "weight above 0"),
        ({"attributes": {"body_site": SITES, "seed": {"0": 1}}}, "column"),
        ({"templates": ["{label} {body_site}"], "attributes": {"body_site": {"face": 1, "": 1}}}, "fragment"),
        ({"synonyms": {"face": []}}, "synonyms of 'face'"),
        ({"labels": {"acne": ""}}, "phrase of label 'acne'"),
    ],
)
def test_bad_sets_are_refused(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        sites(**changes)


def test_all_faults_are_told_at_once():
    with pytest.raises(InputError) as caught:
        sites(templates=["{x}", "{y}"], labels={"acne": ""})
    assert all(word in str(caught.value) for word in ("{x}", "{y}", "'acne'"))


def test_labels_that_the_data_lacks():
    prompts = sites(labels={"acne": "acne", "BCC": "basal cell carcinoma"}, synonyms={"MEL": ["melanoma"]})
    prompts.check_labels(["acne", "BCC"])
    with pytest.raises(InputError, match="lacks: BCC"):
        preview(prompts, ["acne", "nevus"], 1, 0)


def test_preview_has_n_rows_a_class():
    rows = preview(sites(), ["acne", "nevus"], 3, 0)
    assert [row["label"] for row in rows] == ["acne"] * 3 + ["nevus"] * 3
    assert [row["prompt"] for row in rows[3:]] == [row["prompt"] for row in sites().sample("nevus", 3, 0)]


@pytest.mark.parametrize("name", ["plain", "attributes", "clinical"])
def test_shipped_sets_serve_any_classes(name: str):
    prompts = instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="object")
    assert prompts.name == name
    assert all("label" in slots(template) for template in prompts.templates)
    rows = preview(prompts, ["acne", "BCC"], 200, 0)
    assert all(
        ("acne" if row["label"] == "acne" else "basal cell carcinoma") in row["prompt"] for row in rows
    )
    assert not any(set("[]{}") & set(row["prompt"]) or "  " in row["prompt"] for row in rows)
