"""Classes whose names a command line reads as numbers and truth values."""

from __future__ import annotations

import polars as pl
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from skinaug.errors import InputError
from skinaug.finetune.given import _check_labels
from skinaug.labels import by_class, class_named
from skinaug.prompts import PromptSet
from skinaug.test.sets import known_images


@pytest.mark.parametrize(
    "name", ["0", "12", "TRUE", "False", "true", "1.0", "1.50", "1e3", "INF", "acne", "'湿疹'", "007"]
)
def test_every_class_is_named_by_what_an_option_makes_of_its_name(name):
    """The parser of the command line is asked what it makes of it."""
    (value,) = OverridesParser.create().parse_override(f"dataset.classes=[{name}]").value()
    name = name.strip("'")  # Hydra takes letters of other scripts in quotes alone
    assert class_named(value, ["other", name]) == name
    assert by_class({value: 1}, [name]) == {name: 1}


def test_no_class_is_guessed():
    assert class_named(1, ["1.0", "1"]) == "1"
    assert class_named(True, ["TRUE", "True"]) == "True"
    assert class_named(True, ["TRUE", "true"]) == "True", "either may be meant, and neither is taken"
    assert class_named(2, ["0", "1"]) == "2"


def test_maps_of_classes_take_numbers_and_truth_values():
    prompts = PromptSet("p", ["a photo of {label}"], labels={True: "melanoma", 0: "a nevus"})
    prompts.check_labels(["TRUE", "0"])
    assert (prompts.phrase("TRUE"), prompts.phrase("0"), prompts.phrase("1")) == ("melanoma", "a nevus", "1")
    assert prompts.sample("TRUE", 1, 0)[0]["prompt"] == "a photo of melanoma"
    with pytest.raises(InputError, match="the data lacks: 0"):
        prompts.check_labels(["TRUE", "FALSE"])
    table = pl.DataFrame({"label": ["1", "0", "2"]})
    known, foreign = known_images(table, "t", {1: True, 0: False}, ["FALSE", "TRUE"])
    assert known["label"].to_list() == ["TRUE", "FALSE"]
    assert foreign == {"2": 1}
    with pytest.raises(InputError, match="No class: 2"):
        _check_labels(by_class({2: "x"}, ("0", "1")), {}, ("0", "1"), one=True)
