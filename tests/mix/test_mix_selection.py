"""Selections, caps, balance, ways of entering and controls, as properties of whatever mix is asked for."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixing import CLASSES, counts, ids, pool, real
from scipy.spatial.distance import cdist

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.mix.mix import Mix
from skinaug.mix.selection import by_score, by_uncertainty, k_centre, queue

SCORE = "judge.probability"
REAL, POOL = real(), pool()
SEEDS = st.integers(0, 3)
SELECTIONS = st.sampled_from(("random", "best", "uncertain", "diverse"))
LARGE = pool(120)
POINTS = dict(zip(LARGE.table["image_id"], np.random.default_rng(0).normal(size=(240, 3)), strict=True))
SCORES = pl.DataFrame(
    {"image_id": list(POINTS), SCORE: [round(1 / (1 + np.exp(-point[0])), 1) for point in POINTS.values()]}
)


def features(images: Manifest) -> np.ndarray:
    return np.array([POINTS[name] for name in images.table["image_id"]])


def draw(
    real: Manifest = REAL, images: Manifest = LARGE, scores: pl.DataFrame = SCORES, **options
) -> Manifest:
    return Mix("m", score=SCORE, **options)(real, images, scores, features)


def shuffled(manifest: Manifest, random) -> Manifest:
    return manifest.with_table(manifest.table[random.sample(range(len(manifest)), len(manifest))])


RECIPES = st.fixed_dictionaries(
    {
        "seed": SEEDS,
        "selection": SELECTIONS,
        "real_ratio": st.sampled_from((0.3, 0.5, 1.0)),
        "reference": st.sampled_from(("all_real", "kept_real", 12)),
        "balance": st.sampled_from((None, "largest", 30)),
        "max_per_class": st.sampled_from((None, 18, 40)),
        "prompt_sets": st.sampled_from((None, {"plain": 2.0, "clinical": 1.0})),
        "entry": st.sampled_from(("add", "sample", "weight", "pretrain")),
        "control": st.sampled_from((None, "real_alone", "duplicated_real", "label_permuted")),
    }
)


@settings(deadline=None, max_examples=25)
@given(RECIPES, st.floats(0, 1.5), st.floats(0, 1.5))
def test_a_smaller_ratio_is_within_a_larger_one(recipe, one, other):
    few, many = sorted((one, other))
    small, large = (draw(**recipe, synthetic_ratio=ratio) for ratio in (few, many))
    assert ids(small) <= ids(large)


@settings(deadline=None, max_examples=25)
@given(RECIPES, st.floats(0, 1.5), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_and_only_training_images_are_drawn(recipe, ratio, random):
    recipe = recipe | {"synthetic_ratio": ratio}
    mixed = draw(**recipe)
    again = draw(shuffled(REAL, random), shuffled(LARGE, random), shuffled_table(SCORES, random), **recipe)
    assert mixed.table.equals(again.table)
    assert set(mixed.table["split"]) == {"train"}
    held_out = set(REAL.where(pl.col("split") != "train").table["sha256"])
    assert not held_out & set(mixed.table["sha256"])


def test_held_out_images_in_a_pool_are_not_drawn():
    mixed = draw(images=REAL, real_ratio=0, synthetic_per_class=20)
    assert set(mixed.table["split"]) == {"train"}


def shuffled_table(table: pl.DataFrame, random) -> pl.DataFrame:
    return table[random.sample(range(table.height), table.height)]


@settings(deadline=None, max_examples=25)
@given(RECIPES, st.floats(0, 1.5))
def test_counts_caps_and_balance(recipe, ratio):
    recipe = Mix("m", score=SCORE, **recipe, synthetic_ratio=ratio)
    mixed = recipe(REAL, LARGE, SCORES, features)
    asked = recipe.counts(REAL)
    drawn = counts(mixed)
    for label, from_real, from_pool in asked.iter_rows():
        assert drawn.get((label, "real"), 0) == from_real
        assert drawn.get((label, "synthetic"), 0) == from_pool
        assert recipe.max_per_class is None or from_real + from_pool <= recipe.max_per_class
    sizes = (asked["real"] + asked["synthetic"]).to_list()
    if recipe.control == "real_alone":
        return  # nothing tops it up
    if recipe.balance == "largest":
        assert len(set(sizes)) == 1
    if recipe.balance == 30:
        assert min(sizes) >= min(30, recipe.max_per_class or 30)


@pytest.mark.parametrize(
    ("options", "acne", "eczema"),
    [
        ({"balance": "largest"}, (25, 0), (20, 5)),
        ({"balance": "largest", "synthetic_ratio": 0.2}, (25, 5), (20, 10)),
        ({"balance": 22}, (25, 0), (20, 2)),
        ({"balance": 22, "synthetic_ratio": 0.2}, (25, 5), (20, 4)),
        ({"balance": "largest", "max_per_class": 23}, (23, 0), (20, 3)),
        ({"max_per_class": 23}, (23, 0), (20, 0)),
        ({"max_per_class": 23, "synthetic_ratio": 1}, (23, 0), (20, 3)),
        ({"max_per_class": 30, "real_ratio": 0.4, "synthetic_ratio": 1}, (10, 20), (8, 20)),
        ({"entry": "replace", "synthetic_ratio": 0.2}, (20, 5), (16, 4)),
        ({"entry": "replace", "synthetic_ratio": 0.2, "balance": "largest"}, (20, 5), (16, 9)),
        ({"entry": "replace", "synthetic_ratio": 1}, (0, 25), (0, 20)),
        ({"control": "duplicated_real", "real_ratio": 0.2, "synthetic_per_class": 12}, (17, 0), (16, 0)),
        ({"control": "label_permuted", "synthetic_ratio": 1}, (25, 25), (20, 20)),
        ({"control": "real_alone", "real_ratio": 0.4, "synthetic_ratio": 1}, (10, 0), (8, 0)),
        ({"control": "fresh_real", "real_ratio": 0.4, "synthetic_ratio": 0.2}, (15, 0), (12, 0)),
        ({"control": "fresh_real", "real_limit": 10, "synthetic_ratio": 0.5}, (15, 0), (15, 0)),
    ],
)
def test_exact_counts(options, acne, eczema):
    expected = {("acne", "real"): acne[0], ("acne", "synthetic"): acne[1]}
    expected |= {("eczema", "real"): eczema[0], ("eczema", "synthetic"): eczema[1]}
    assert counts(draw(**options)) == {cell: count for cell, count in expected.items() if count}


@given(st.floats(0, 1), SEEDS)
def test_replacing_keeps_the_budget_and_the_real_images_are_among_those_of_no_replacement(ratio, seed):
    mixed, plain = draw(entry="replace", synthetic_ratio=ratio, seed=seed), draw(seed=seed)
    assert mixed.table["label"].value_counts(sort=True).equals(plain.table["label"].value_counts(sort=True))
    assert ids(mixed.where(pl.col("source") == "real")) <= ids(plain)


@settings(deadline=None)
@given(st.integers(1, 60), SEEDS)
def test_the_best_are_drawn_and_equal_scores_by_the_seed(count, seed):
    drawn = draw(selection="best", synthetic_per_class=count, real_ratio=0, seed=seed).table
    values = dict(SCORES.iter_rows())
    for label in CLASSES:
        own = [values[name] for name in drawn.filter(pl.col("label") == label)["image_id"]]
        everything = [values[name] for name in LARGE.table.filter(pl.col("label") == label)["image_id"]]
        assert own == sorted(everything, reverse=True)[:count]
    tied = SCORES.with_columns(pl.lit(0.5).alias(SCORE))
    by_seed = draw(selection="best", scores=tied, synthetic_per_class=count, seed=seed)
    assert ids(by_seed) == ids(draw(synthetic_per_class=count, seed=seed))


def test_images_without_a_score_come_last():
    gaps = SCORES.with_columns(
        pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).when(pl.int_range(pl.len()) % 3 == 1)
        .then(float("nan")).otherwise(SCORE).alias(SCORE)
    )  # fmt: skip
    scored = set(gaps.filter(pl.col(SCORE).is_finite())["image_id"])
    ranked = by_score(queue(LARGE.table, 0), gaps, SCORE)
    for label in CLASSES:
        names = ranked.filter(pl.col("label") == label)["image_id"].to_list()
        assert set(names[:40]) == {name for name in scored if name.startswith(label)}


def test_unknown_scores_tell_what_there_is():
    with pytest.raises(InputError, match=r"mix\.score=judge\.x.*It has judge\.probability"):
        Mix("m", synthetic_ratio=1, selection="best", score="judge.x")(REAL, LARGE, SCORES)
    with pytest.raises(InputError, match="no image of the pool has this score"):
        draw(
            selection="best",
            synthetic_ratio=1,
            scores=SCORES.with_columns(pl.lit(None, pl.Float64).alias(SCORE)),
        )
    with pytest.raises(InputError, match="selection=best needs scores"):
        Mix("m", synthetic_ratio=1, selection="best")(REAL, LARGE)
    with pytest.raises(InputError, match="selection=diverse needs features"):
        Mix("m", synthetic_ratio=1, selection="diverse")(REAL, LARGE)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 3))
def test_every_centre_is_the_farthest_and_the_radius_at_most_twice_the_least(seed, count, dimensions):
    points = np.random.default_rng(seed).normal(size=(12, dimensions))
    order = k_centre(points, count)
    assert order[0] == 0
    assert len(set(order.tolist())) == count
    distances = cdist(points, points)
    for k in range(1, count):
        nearest = distances[:, order[:k]].min(1)
        assert nearest[order[k]] == pytest.approx(nearest.max(), rel=1e-3)
    if count < 4:
        least = min(distances[:, list(chosen)].min(1).max() for chosen in combinations(range(12), count))
        assert distances[:, order].min(1).max() <= 2 * least * (1 + 1e-6)


def test_equal_pictures_are_taken_once_each():
    assert sorted(k_centre(np.ones((5, 4)), 5).tolist()) == [0, 1, 2, 3, 4]
    points = np.random.default_rng(0).normal(size=(40, 5))
    repeated = np.repeat(points, 3, axis=0)
    assert len({int(row) // 3 for row in k_centre(repeated, 40)}) == 40, "a copy is no other picture"
    assert k_centre(points + 1e4, 40).tolist() == k_centre(points, 40).tolist(), (
        "a common offset does not count"
    )


def test_diverse_images_cover_their_class_better_than_random_ones():
    radius = {}
    for selection in ("diverse", "random"):
        drawn = draw(selection=selection, synthetic_per_class=12, real_ratio=0)
        radius[selection] = max(
            cdist(features(LARGE.where(of)), features(drawn.where(of))).min(1).max()
            for of in (pl.col("label") == label for label in CLASSES)
        )
    assert radius["diverse"] < 0.8 * radius["random"]


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({"entry": "add"}, {}),
        ({"entry": "replace"}, {}),
        ({"entry": "sample", "sample_probability": 0.3}, {"draw_share": (0.7, 0.3), "draw_phase": (0, 0)}),
        ({"entry": "weight", "loss_weight": 0.2}, {"loss_weight": (1.0, 0.2)}),
        ({"entry": "pretrain", "pretrain_share": 0.6}, {"draw_share": (0.4, 0.6), "draw_phase": (1, 0)}),
    ],
)
def test_how_images_enter_training_stands_in_their_rows(options, columns):
    mixed = draw(**options, synthetic_ratio=0.5).table
    assert {"loss_weight", "draw_share", "draw_phase"} & set(mixed.columns) == set(columns)
    for name, values in columns.items():
        for source, value in zip(("real", "synthetic"), values, strict=True):
            assert mixed.filter(pl.col("source") == source)[name].unique().to_list() == [pytest.approx(value)]
    alone = draw(**options).table
    assert not {"loss_weight", "draw_share", "draw_phase"} & set(alone.columns), (
        "real images alone are a plain mix"
    )


def test_repeated_photographs_keep_their_content_and_are_repeated_evenly():
    mixed = draw(control="duplicated_real", real_ratio=0.2, synthetic_ratio=0.5).table
    assert set(mixed["source"]) == {"real"}
    assert mixed["image_id"].n_unique() == mixed.height
    for label, per_image in (("acne", 3), ("eczema", 3)):
        times = mixed.filter(pl.col("label") == label)["sha256"].value_counts()["count"].to_list()
        assert sum(times) == {"acne": 5 + 13, "eczema": 4 + 10}[label]
        assert max(times) - min(times) <= 1
        assert per_image in times
    assert set(mixed["sha256"]) == set(draw(real_ratio=0.2).table["sha256"])
    assert not Mix("m", synthetic_ratio=1, control="duplicated_real").needs_pool
    with pytest.raises(InputError, match=r"(?s)no real training images to repeat.*acne: asked 3"):
        draw(control="duplicated_real", real_ratio=0, synthetic_per_class=3)


@settings(deadline=None)
@given(SEEDS, st.floats(0, 0.5))
def test_fresh_photographs_are_others_than_those_that_are_kept(seed, ratio):
    kept = draw(seed=seed, real_ratio=0.4)
    fresh = draw(seed=seed, real_ratio=0.4, synthetic_ratio=ratio, control="fresh_real")
    assert ids(kept) <= ids(fresh)
    assert set(fresh.table["source"]) == {"real"}
    assert fresh.table["sha256"].n_unique() == len(fresh)


def test_too_few_fresh_photographs_are_refused():
    with pytest.raises(InputError, match=r"(?s)stand in for synthetic ones.*acne: has 25, asked 30"):
        draw(control="fresh_real", synthetic_ratio=0.2)


def test_shuffled_labels_are_those_of_the_same_images_and_tell_nothing():
    plain, permuted = (draw(synthetic_ratio=4, control=control).table for control in (None, "label_permuted"))
    both = plain.join(permuted, on="image_id", suffix="_permuted")
    assert both.height == plain.height == permuted.height
    real = pl.col("source") == "real"
    assert both.filter(real, pl.col("label") != pl.col("label_permuted")).is_empty()
    right = both.filter(~real).select(pl.col("label") == pl.col("label_permuted")).to_series().mean()
    assert right == pytest.approx((5 / 9) ** 2 + (4 / 9) ** 2, abs=0.15)
    other = draw(synthetic_ratio=4, control="label_permuted", seed=1).table
    assert not permuted.select("image_id", "label").equals(other.select("image_id", "label"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": "smallest"}, r"mix\.balance=smallest: it is largest or a count"),
        ({"max_per_class": -1}, r"mix\.max_per_class=-1"),
        ({"selection": "worst"}, r"mix\.selection=worst: it is one of random, best, uncertain, diverse"),
        ({"entry": "first"}, r"mix\.entry=first: it is one of add, replace, sample, weight, pretrain"),
        (
            {"control": "oracle"},
            r"mix\.control=oracle: it is one of real_alone, duplicated_real, tone_shift, fresh_real",
        ),
        ({"sample_probability": 1}, r"mix\.sample_probability=1: it is a number between 0 and 1"),
        ({"pretrain_share": 0.0}, r"mix\.pretrain_share=0\.0"),
        ({"loss_weight": 0}, r"mix\.loss_weight=0: it is a number above 0"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        Mix("m", **options)


def test_more_than_can_be_replaced_is_refused():
    with pytest.raises(InputError, match=r"(?s)to replace.*eczema: has 20, asked 30"):
        draw(entry="replace", synthetic_ratio=1.5)


def test_balancing_needs_a_pool_with_enough_images():
    assert Mix("m", balance="largest").needs_pool
    with pytest.raises(InputError, match=r"(?s)in the pool.*acne: has 60, asked 475.*mix\.balance"):
        Mix("m", balance=500)(REAL, POOL)


def test_the_uncertain_come_first_by_margin_and_entropy_alike():
    """Of two answers, the smallest margin and the highest entropy are one order, computed here from both probabilities."""
    rng = np.random.default_rng(1)
    p = np.round(rng.uniform(0.001, 0.999, 240), 6)
    scores = pl.DataFrame({"image_id": LARGE.table["image_id"], SCORE: p})
    table = by_uncertainty(queue(LARGE.table, 0), scores, SCORE)
    both = np.stack([p, 1 - p])
    for values in (np.abs(both[0] - both[1]), (both * np.log(both)).sum(0)):
        order = dict(zip(LARGE.table["image_id"], values, strict=True))
        for label in CLASSES:
            ids_ = table.filter(pl.col("label") == label).sort("place")["image_id"]
            ranked = np.array([order[name] for name in ids_])
            assert (np.diff(ranked) >= -1e-9).all()
    drawn = draw(scores=scores, real_ratio=0, synthetic_per_class=10, selection="uncertain")
    taken = np.abs(scores.join(drawn.table, on="image_id", how="semi")[SCORE].to_numpy() - 0.5)
    assert taken.max() < 0.2


def test_uncertainty_of_what_is_no_probability_is_refused():
    scores = SCORES.with_columns(pl.col(SCORE) * 3)
    with pytest.raises(InputError, match=r"mix\.selection=uncertain .* goes from .* to 3"):
        by_uncertainty(queue(LARGE.table, 0), scores, SCORE)
    known = SCORES.with_columns(pl.when(pl.col("image_id").is_in(["acne-s3", "acne-s70"])).then(SCORE))
    places = by_uncertainty(queue(LARGE.table, 0), known, SCORE).filter(pl.col("label") == "acne")
    assert set(places["image_id"][:2]) == {"acne-s3", "acne-s70"}, "images without a score come last"
