"""Folds over patients: a partition, stratified, the same whichever fold is asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinaug.dataset.folds import check_folds, deal_folds, without_own_splits
from skinaug.errors import InputError


def patients(seed: int, per_class: int = 40) -> pl.DataFrame:
    """Images of three classes, of patients with one to three each."""
    rng = np.random.default_rng(seed)
    rows = [
        {"image_id": f"{label}{patient}_{image}", "label": label, "group_id": f"{label}{patient}"}
        for label in ("acne", "eczema", "nevus")
        for patient in range(per_class)
        for image in range(rng.integers(1, 4))
    ]
    return pl.DataFrame(rows)


@given(st.integers(0, 50), st.integers(2, 6))
@settings(max_examples=15)
def test_every_patient_is_in_the_test_of_one_fold_and_in_no_two_splits_of_any(seed: int, folds: int):
    table = patients(seed)
    tested: Counter[str] = Counter()
    for fold in range(folds):
        dealt = deal_folds(table, folds, fold, 0.15, seed)
        assert dealt.drop("split").sort("image_id").equals(table.sort("image_id"))
        assert dealt.group_by("group_id").agg(pl.col("split").n_unique())["split"].max() == 1
        tested.update(dealt.filter(pl.col("split") == "test")["group_id"].unique())
        shares = dealt.group_by("label", "split").len().join(dealt.group_by("label").len(), on="label")
        for split, share in {"test": 1 / folds, "val": 0.15}.items():
            found = shares.filter(pl.col("split") == split).select(pl.col("len") / pl.col("len_right"))["len"]
            assert len(found) == 3, "every class in each split"
            assert found.to_numpy() == pytest.approx(share, abs=0.06)
    assert tested == dict.fromkeys(table["group_id"].unique(), 1)


def test_folds_depend_on_the_seed_and_not_on_the_order():
    table = patients(1)

    def test_patients(rows: pl.DataFrame, seed: int) -> set[str]:
        return set(deal_folds(rows, 5, 2, 0.15, seed).filter(pl.col("split") == "test")["group_id"])

    assert test_patients(table, 0) == test_patients(table.sample(fraction=1, shuffle=True, seed=3), 0)
    assert test_patients(table, 0) != test_patients(table, 1), "another seed is another partition"


def test_a_class_with_fewer_patients_than_folds_is_refused():
    few = pl.concat(
        [patients(0).filter(pl.col("label") != "nevus"), patients(0, 4).filter(pl.col("label") == "nevus")]
    )
    with pytest.raises(InputError, match=r"(?s)nevus: 4\n.*dataset.min_patients=5"):
        deal_folds(few, 5, 0, 0.15, 0)


@pytest.mark.parametrize(
    ("folds", "fold", "val_fraction", "said"),
    [
        (1, 0, 0.15, "at least 2"),
        (True, 0, 0.15, "at least 2"),
        (2.5, 0, 0.15, "at least 2"),
        (5, None, 0.15, "a sweep .* runs all folds; a single job takes one of them, dataset.fold=0 to dataset.fold=4"),
        (5, 5, 0.15, "dataset.fold=0 to dataset.fold=4"),
        (5, -1, 0.15, "dataset.fold=0 to dataset.fold=4"),
        (2, 0, 0.5, "less than 0.50"),
        (None, 1, 0.15, "say of how many, as in folds=5"),
    ],
)  # fmt: skip
def test_folds_that_cannot_be_are_refused(folds, fold, val_fraction: float, said: str):
    with pytest.raises(InputError, match=said):
        check_folds(folds, fold, val_fraction)


def test_own_splits_of_the_data_are_left_out_with_a_note():
    table = pl.DataFrame({"image_id": ["a", "b", "c"], "split": ["train", None, "test"]})
    without, told = without_own_splits(table)
    assert without.columns == ["image_id"]
    assert told == ["The data's own splits of 2 images are not used: folds are dealt over all patients."]
    assert without_own_splits(without) == (without, [])


def test_a_reserve_is_in_the_test_of_no_fold_and_alone_teaches_what_serves_all():
    table = patients(2)

    def split_of(fold: int | None, split: str) -> set[str]:
        return set(
            deal_folds(table, 4, fold, 0.15, 0, reserve=0.25).filter(pl.col("split") == split)["group_id"]
        )

    taught = split_of(None, "train")
    assert len(taught) == pytest.approx(30, abs=4)
    assert split_of(None, "test") == set(table["group_id"]) - taught
    tests = [split_of(fold, "test") for fold in range(4)]
    assert set.union(*tests) == set(table["group_id"]) - taught
    assert sum(map(len, tests)) == 120 - len(taught), "each once"
    for fold in range(4):
        assert taught <= split_of(fold, "train"), "validation is held out too"


@pytest.mark.parametrize("reserve", [0, 1.0, 2, "half"])
def test_a_reserve_is_a_share(reserve):
    with pytest.raises(InputError, match=r"folds.reserve="):
        check_folds(4, 0, 0.15, reserve)
