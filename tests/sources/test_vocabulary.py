"""Skin types on their scales, ages, sexes and sites, as published tables spell them."""

from __future__ import annotations

import polars as pl
import pytest

from skinaug.errors import InputError
from skinaug.sources.told import telling
from skinaug.sources.vocabulary import (
    SCALES,
    is_unknown,
    place_on_scale,
    read_attributes,
    scale_of,
    scales_of,
    years_of,
)


def read(values: list[str | None], name: str = "skin_type", **options) -> list:
    return read_attributes(pl.DataFrame({name: values}, schema={name: pl.String}), **options)[name].to_list()


@pytest.mark.parametrize("spelling", ["2", "2.0", "II", "ii", "FST2", "fst_ii", "type II", "Fitzpatrick 2"])
def test_a_fitzpatrick_type_in_its_spellings(spelling):
    assert read([spelling, " 6 ", "i", None, "", "-1", "NONE_SELECTED"]) == ["II", "VI", "I", *[None] * 4]


@pytest.mark.parametrize(
    ("scale", "values", "words"),
    [
        (
            "fitzpatrick_pairs",
            ["12", "34.0", "56", "i/II", "3-4"],
            ["I-II", "III-IV", "V-VI", "I-II", "III-IV"],
        ),
        ("monk", ["1", "10", "Monk 7", "mst_03"], ["Monk 1", "Monk 10", "Monk 7", "Monk 3"]),
        ("milk10k", ["0", "5.0", "3"], ["MILK10k 0", "MILK10k 5", "MILK10k 3"]),
        ({0: "VI", "1": "V", "pale": "I"}, ["0.0", "1", "Pale"], ["VI", "V", "I"]),
        ({"I": "I-II", "II": "I-II"}, ["II", "i"], ["I-II", "I-II"]),
    ],
)
def test_other_scales_keep_words_of_their_own(scale, values, words):
    assert read(values, scales={"skin_type": scale}) == words
    assert read(words) == words, "words that name their scale are read whatever scale is said"


def test_numbers_of_other_scales_become_no_fitzpatrick_type():
    assert read(["23", "2"] * 5, scales={"skin_type": "fitzpatrick"}) == [None, "II"] * 5
    assert [SCALES["fitzpatrick"].read(value) for value in ("0", "7", "12", "2.5", "iiii")] == [None] * 5
    assert [SCALES["fitzpatrick_pairs"].read(value) for value in ("1", "23", "21", "11")] == [None] * 4
    assert [SCALES["monk"].read(value) for value in ("0", "11", "II")] == [None] * 3


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (["12", "34", "56"], "fitzpatrick_pairs"),
        ([str(n) for n in range(1, 11)], "monk"),
        ([str(n) for n in range(6)], "milk10k"),
    ],
)
def test_a_column_that_is_on_another_scale_is_refused_with_the_option_to_set(values, scale):
    with pytest.raises(InputError, match=rf"dataset\.source\.scales={{skin_type: {scale}}}"):
        read(values)
    assert all(scale_of(word) == scale for word in read(values, scales={"skin_type": scale}))


def test_a_code_for_not_known_can_be_said_to_be_none():
    with pytest.raises(
        InputError, match=r"these are not known, say dataset\.source\.scales={skin_type: fitzpatrick}"
    ):
        read(["0", "1", "2"])
    with telling() as lines:
        assert read(["0", "1", "2"], scales={"skin_type": "fitzpatrick"}) == [None, "I", "II"]
    assert lines[0].startswith(
        "skin_type: 1 of 3 values are not understood on the scale fitzpatrick, such as 0."
    )


def test_what_is_not_understood_is_told_from_a_tenth_on():
    with telling() as lines:
        assert read([*["1"] * 9, "olive"]) == [*["I"] * 9, None]
        assert not lines, "a tenth is not over a tenth"
        read([*["1"] * 9, "olive", "pale", "", None])
    (line,) = lines
    assert line.startswith(
        "skin_type: 2 of 11 values are not understood on the scale fitzpatrick, such as olive, pale."
    )
    with pytest.raises(InputError, match=r"(?s)skin_type: 2 of 3 .* olive, pale.*age: 3 of 3 .* old, older"):
        read_attributes(
            pl.DataFrame({"skin_type": ["olive", "pale", "-1"], "age": ["young", "old", "older"]})
        )
    assert read(["-1", "", "unknown"]) == [None] * 3, "nothing is said, so nothing is misread"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scales": {"skin_type": "fst"}},
            r"skin_type=fst: choose from fitzpatrick, fitzpatrick_pairs, monk, milk10k",
        ),
        ({"scales": {"skin_type": {"a": "brown"}}}, "maps a to brown, a word of no scale"),
        ({"scales": {"skin_type": {"a": "I", "b": "Monk 2"}}}, "fitzpatrick, monk: map to words of one"),
        ({"scales": {"tone": "monk"}}, "tone, which source.columns does not map"),
        ({"told_by": {"skin_type": "nurse"}}, "choose from dermatologist, self"),
    ],
)
def test_scales_that_are_none(options, message):
    with pytest.raises(InputError, match=message):
        read(["1"], **options)


def test_who_told_a_type_stands_beside_it():
    table = pl.DataFrame({"skin_type": ["FST1", "NONE_SELECTED"], "monk": ["3", ""]})
    read = read_attributes(table, {"monk": "monk"}, {"skin_type": "self"})
    assert read.rows(named=True)[0] == {"skin_type": "I", "monk": "Monk 3", "skin_type_told_by": "self"}
    assert read.rows()[1] == (None, None, None)


def test_words_sort_in_the_order_of_their_scale():
    words = ["Monk 10", "olive", "VI", "Monk 2", "V-VI", "IX", "II", "I-II", "MILK10k 0", "IV"]
    assert sorted(words, key=place_on_scale) == [
        *("II", "IV", "VI", "I-II", "V-VI", "Monk 2", "Monk 10", "MILK10k 0", "IX", "olive"),
    ]
    assert scales_of([*words, None]) == ["fitzpatrick", "fitzpatrick_pairs", "monk", "milk10k"]


@pytest.mark.parametrize(
    ("value", "years"),
    [
        *(
            ("45", 45),
            ("45.0", 45),
            ("0", 0),
            ("85+", 85),
            (">85", 85),
            ("85 and over", 85),
            ("AGE_80_OR_ABOVE", 80),
        ),
        *(
            ("AGE_30_TO_39", 35),
            ("30-39", 35),
            ("30s", 35),
            ("[30, 40)", 35),
            ("(30.0, 40.0]", 35),
            ("AGE_18_TO_29", 24),
        ),
        *(("<18", 9), ("under 18", 9), ("62 years", 62), ("62y", 62), ("aged 62", 62)),
        *(("121", None), ("old", None), ("-5", None), ("4 5", None), ("inf", None)),
    ],
)
def test_ages_are_years(value, years):
    assert years_of(value) == years


def test_words_for_not_known_are_null():
    for value in ("-1", "AGE_UNKNOWN", "nan", "", " Unknown "):
        assert is_unknown(value, number=True)
    assert not is_unknown("-1")
    assert not is_unknown("0", number=True)
    assert read(["45", "AGE_UNKNOWN", "-1", "85+"], "age") == [45.0, None, None, 85.0]


def test_sexes_and_sites():
    sexes = ["male", "Male", "M", "MALE", "f", "FEMALE", "OTHER_OR_UNSPECIFIED", "other", "unknown", None]
    assert read(sexes, "sex") == [*["male"] * 4, "female", "female", None, "other", None, None]
    sites = ["head/neck", "head_neck_face", "Head and neck", " FACE ", "lower  extremity", "Unknown", ""]
    assert read(sites, "body_site") == [
        *("head/neck", "head neck face", "head and neck", "face", "lower extremity"),
        *(None, None),
    ]
