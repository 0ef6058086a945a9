"""Mixes have the exact counts that were asked for, are nested, and depend on nothing but seed and ids."""

from __future__ import annotations

import math
import time
from collections import Counter
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixing import CLASSES, counts, ids, pool, real

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.mix.mix import Mix, mix, scale
from skinaug.mix.selection import queue
from skinaug.mix.shares import allot

SEEDS = st.integers(0, 3)
REAL, POOL = real(), pool()


@pytest.mark.parametrize(
    ("options", "acne", "eczema"),
    [
        ({}, (25, 0), (20, 0)),
        ({"real_ratio": 0.5}, (13, 0), (10, 0)),
        ({"real_ratio": 0.5, "synthetic_ratio": 1.0, "reference": "kept_real"}, (13, 13), (10, 10)),
        ({"real_ratio": 0, "synthetic_ratio": 1}, (0, 25), (0, 20)),
        ({"real_ratio": 0.5, "synthetic_ratio": 2, "reference": "all_real"}, (13, 50), (10, 40)),
        ({"real_per_class": 7, "synthetic_ratio": 1.5, "reference": "kept_real"}, (7, 11), (7, 11)),
        ({"synthetic_per_class": 9}, (25, 9), (20, 9)),
        ({"synthetic_ratio": 0.25, "reference": 30}, (25, 8), (20, 8)),
        ({"real_limit": 10, "real_ratio": 0.5, "synthetic_ratio": 1}, (5, 10), (5, 10)),
        ({"real_limit": 22, "synthetic_ratio": 1, "reference": "kept_real"}, (22, 22), (20, 20)),
        ({"real_limit": 22, "synthetic_ratio": 3, "synthetic_per_class": 0}, (22, 0), (20, 0)),
    ],
)
def test_exact_counts(options, acne, eczema):
    mixed = Mix("m", **options)(REAL, POOL)
    expected = {("acne", "real"): acne[0], ("acne", "synthetic"): acne[1]}
    expected |= {("eczema", "real"): eczema[0], ("eczema", "synthetic"): eczema[1]}
    assert counts(mixed) == {cell: count for cell, count in expected.items() if count}
    assert set(mixed.table["split"]) == {"train"}


@given(st.decimals(0, 5, places=3), st.integers(0, 10**6))
def test_rounding_is_exact_and_halves_go_up(ratio, count):
    exact = Fraction(str(ratio)) * count
    assert scale(float(ratio), count) == math.floor(exact + Fraction(1, 2))
    assert scale(0.29, 50) == 15  # 0.29 * 50 is 14.499999999999998 in floating point


@settings(deadline=None, max_examples=20)
@given(
    SEEDS,
    st.lists(st.floats(0.05, 1), min_size=2, max_size=2),
    st.lists(st.floats(0, 2), min_size=2, max_size=2),
)
def test_smaller_mixes_are_within_larger_ones(seed, real_ratios, synthetic_ratios):
    (low, high), (few, many) = sorted(real_ratios), sorted(synthetic_ratios)
    small = Mix("s", real_ratio=low, synthetic_ratio=few, seed=seed)(REAL, POOL)
    large = Mix("l", real_ratio=high, synthetic_ratio=many, seed=seed)(REAL, POOL)
    assert ids(small) <= ids(large)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.integers(1, 25), st.integers(0, 15), st.integers(1, 3), st.integers(1, 3))
def test_prompt_sets_are_nested_and_weighted(seed, count, more, plain, clinical):
    weights = {"plain": float(plain), "clinical": float(clinical), "unused": 0.0}
    plenty = pool(80)
    small, large = (
        Mix("m", synthetic_per_class=asked, prompt_sets=weights, seed=seed)(REAL, plenty)
        for asked in (count, count + more)
    )
    assert ids(small) <= ids(large)
    for label in CLASSES:
        drawn = small.table.filter(pl.col("label") == label, pl.col("source") == "synthetic")["prompt_set"]
        assert len(drawn) == count
        assert abs((drawn == "plain").sum() - count * plain / (plain + clinical)) < 1


@given(st.integers(0, 60), st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 9), min_size=1))
def test_allotments_sum_up_and_only_grow(count, weights):
    one, next_one = allot(count, weights), allot(count + 1, weights)
    assert sum(one.values()) == count
    assert all(one[name] <= next_one[name] for name in one)


@given(SEEDS, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(seed, random):
    order = list(range(len(REAL)))
    random.shuffle(order)
    shuffled = REAL.with_table(REAL.table[order])
    recipe = Mix("m", real_ratio=0.4, seed=seed)
    assert recipe(shuffled).table["image_id"].to_list() == recipe(REAL).table["image_id"].to_list()


def test_more_images_leave_the_order_of_the_others():
    few, many = queue(pool(20).table, seed=0), queue(pool(60).table, seed=0)
    known = set(few["image_id"])
    assert [name for name in many["image_id"] if name in known] == few["image_id"].to_list()


def test_seeds_and_classes_are_drawn_independently():
    draws = [tuple(sorted(ids(Mix("m", real_ratio=0.3, seed=seed)(REAL)))) for seed in range(4)]
    assert len(set(draws)) == 4
    chosen = {
        label: {name.split("-", 1)[1] for name in draws[0] if name.startswith(label)} for label in CLASSES
    }
    assert chosen["acne"] != chosen["eczema"]


def test_draws_are_even():
    """Each of 20 images is among 5 drawn in a quarter of the seeds: chi-square below its 99.9 % point for 19 degrees."""
    times = Counter(
        name
        for seed in range(400)
        for name in queue(REAL.split("train").table, seed).filter(
            pl.col("place") < 5, pl.col("label") == "eczema"
        )["image_id"]
    )
    assert sum((times[f"eczema-train-{i}"] - 100) ** 2 / 100 for i in range(20)) < 43.8


def test_too_few_images_name_class_has_and_asked():
    with pytest.raises(InputError, match=r"real training images.*\n\s+eczema: has 20, asked 24\n"):
        Mix("m", real_per_class=24)(REAL)
    with pytest.raises(InputError, match=r"(?s)in the pool.*acne: has 60, asked 75\s+.*generate\.per_class"):
        Mix("m", synthetic_ratio=3)(REAL, POOL)
    with pytest.raises(InputError, match=r"(?s)prompt set plain in the pool.*acne: has 30, asked 40"):
        Mix("m", synthetic_per_class=40, prompt_sets={"plain": 1})(REAL, POOL)


def test_counts_are_known_before_there_is_a_pool():
    assert Mix("m", real_ratio=0.5, synthetic_ratio=2).counts(REAL).rows() == [
        ("acne", 13, 50),
        ("eczema", 10, 40),
    ]
    with pytest.raises(InputError, match="eczema: has 20, asked 22"):
        Mix("m", real_per_class=22).counts(REAL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"real_ratio": -0.1}, r"mix\.real_ratio=-0\.1"),
        ({"real_ratio": 1.1}, r"mix\.real_ratio=1\.1"),
        ({"real_ratio": math.nan}, r"mix\.real_ratio=nan"),
        ({"synthetic_ratio": -1}, r"mix\.synthetic_ratio=-1: it is a number of at least 0"),
        ({"synthetic_ratio": math.inf}, r"mix\.synthetic_ratio=inf"),
        ({"synthetic_ratio": "many"}, r"mix\.synthetic_ratio=many"),
        ({"real_per_class": -5}, r"mix\.real_per_class=-5"),
        ({"synthetic_per_class": 2.5}, r"mix\.synthetic_per_class=2\.5"),
        ({"reference": "real"}, r"mix\.reference=real: it is one of all_real, kept_real"),
        ({"prompt_sets": {}}, r"mix\.prompt_sets="),
        ({"prompt_sets": {"plain": -1, "clinical": 2}}, r"mix\.prompt_sets="),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        Mix("m", **options)


def test_all_wrong_values_are_listed():
    with pytest.raises(InputError, match=r"(?s)real_ratio.*synthetic_ratio.*reference"):
        Mix("m", real_ratio=2, synthetic_ratio=-1, reference="x")


def test_a_class_without_any_image_is_refused():
    with pytest.raises(InputError, match="no training image of acne, eczema"):
        Mix("m", real_ratio=0)(REAL)


def test_needs_pool():
    assert not Mix("m").needs_pool
    assert not Mix("m", synthetic_ratio=1, synthetic_per_class=0).needs_pool
    assert Mix("m", synthetic_ratio=0.1).needs_pool
    assert Mix("m", synthetic_per_class=1).needs_pool
    with pytest.raises(InputError, match="no pool"):
        Mix("m", synthetic_ratio=1)(REAL)


def test_unknown_prompt_set_tells_what_the_pool_has():
    with pytest.raises(InputError, match="names poetic; the pool has clinical, plain"):
        Mix("m", synthetic_ratio=1, prompt_sets={"poetic": 1})(REAL, POOL)


def test_artifact_and_table(tmp_path, capsys):
    mix(Mix("hybrid", real_ratio=0.5, synthetic_ratio=1, reference="kept_real"), REAL, POOL, tmp_path)
    mixed = Manifest.read(tmp_path)
    assert len(mixed) == 46
    assert str(mixed.root) == "/data"
    assert {path.split("/")[0] for path in mixed.table["path"]} == {"real", "pool"}
    assert (tmp_path / "table.csv").read_text() == "label,real,synthetic\nacne,13,13\neczema,10,10\n"
    shown = capsys.readouterr().out
    assert "mix hybrid" in shown
    assert "23" in shown


@pytest.mark.parametrize(
    ("options", "cells", "by"),
    [
        ({"real_limit": 20, "synthetic_ratio": 1}, ("20 of 25", "20", "40 of 45"), "5 real training images left out by mix.real_limit=20"),
        ({"real_ratio": 0.5, "real_limit": 90}, ("13 of 25", "10 of 20", "23 of 45"), "22 real training images left out by mix.real_ratio=0.5"),
        ({"real_limit": 24, "synthetic_ratio": 1, "control": "duplicated_real"}, ("48 (24 of 25, repeated)", "40", "88 (44 of 45, repeated)"), "1 real training image left out by mix.real_limit=24"),
        ({"synthetic_ratio": 1}, ("25", "20", "45"), None),
    ],
)  # fmt: skip
def test_the_table_tells_photographs_that_a_mix_leaves_out(tmp_path, capsys, options, cells, by):
    mix(Mix("m", **options), REAL, POOL, tmp_path)
    shown = capsys.readouterr().out
    for label, cell in zip((*CLASSES, "all"), cells, strict=True):
        (line,) = (line for line in shown.splitlines() if label in line)
        assert line.split("│")[2].strip() == cell
    assert (by in shown) if by else ("left out" not in shown)


def test_a_pool_that_is_too_small_is_refused_without_drawing():
    """By the same counts as a draw: as many as there are will do, one more will not."""
    for per_class, weights in [(60, None), (30, {"plain": 1})]:
        enough = Mix("m", synthetic_per_class=per_class, prompt_sets=weights)
        enough.check_pool(REAL, POOL)
        enough(REAL, POOL)
        more = Mix("m", synthetic_per_class=per_class + 1, prompt_sets=weights)
        for refused in (more.check_pool, more):
            with pytest.raises(InputError, match=rf"acne: has {per_class}, asked {per_class + 1}\n"):
                refused(REAL, POOL)


def test_a_large_pool_in_seconds():
    table = pool(100_000).table
    started = time.perf_counter()
    queue(table, seed=0)
    assert time.perf_counter() - started < 10  # a second or two on an idle core
