"""Patients never cross splits; proportions are near what was asked; neither order nor names of rows matter."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from skinaug.dataset.splits import assign_splits, complete_splits, refuse_crossing, split_fractions
from skinaug.errors import InputError

THIRDS = split_fractions(0.15, 0.25)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Labels and patients: each class has at least three patients of its own, and some have several classes."""
    labels, groups = [], []
    for label in "abc"[: draw(st.integers(1, 3))]:
        sizes = draw(st.lists(st.integers(1, 6), min_size=3, max_size=15))
        for patient, size in enumerate(sizes):
            labels += [label] * size
            groups += [f"{label}{patient}"] * size
    for _ in range(draw(st.integers(0, 5))):
        labels.append(draw(st.sampled_from(sorted(set(labels)))))
        groups.append(draw(st.sampled_from(groups)))
    return labels, groups


@settings(deadline=None, max_examples=60)
@given(cohorts(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_groups_whole_classes_everywhere_order_free(cohort, seed, random):
    labels, groups = cohort
    splits = assign_splits(labels, groups, THIRDS, seed)
    homes = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        homes[group].add(split)
    assert all(len(home) == 1 for home in homes.values())
    assert {*zip(labels, splits, strict=True)} >= {(label, split) for label in labels for split in THIRDS}
    order = list(range(len(labels)))
    random.shuffle(order)
    shuffled = assign_splits([labels[i] for i in order], [groups[i] for i in order], THIRDS, seed)
    assert shuffled == [splits[i] for i in order]


def cohort(num_patients: int, seed: int = 0) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(0.6, num_patients)
    kinds = rng.choice(list("abcd"), num_patients, p=[0.5, 0.3, 0.15, 0.05])
    labels = [str(kind) for kind, size in zip(kinds, sizes, strict=True) for _ in range(size)]
    return labels, [f"p{patient}" for patient, size in enumerate(sizes) for _ in range(size)]


def worst_deviation(labels: list[str], splits: list[str], fractions: dict[str, float]) -> float:
    """Images that a class has too many or too few of in a split, at worst."""
    total, cells = Counter(labels), Counter(zip(labels, splits, strict=True))
    return max(
        abs(cells[label, split] - total[label] * share)
        for label in total
        for split, share in fractions.items()
    )


def test_proportions_within_two_images():
    for seed in range(5):
        labels, groups = cohort(300, seed)
        splits = assign_splits(labels, groups, THIRDS, seed)
        assert worst_deviation(labels, splits, THIRDS) <= 2


def test_no_worse_than_scikit_learn():
    labels, groups = cohort(300)
    quarters = {"train": 0.5, "val": 0.25, "test": 0.25}
    theirs = np.empty(len(labels), dtype=object)
    folds = StratifiedGroupKFold(4, shuffle=True, random_state=0).split(labels, labels, groups)
    for name, (_, rows) in zip(("train", "train", "val", "test"), folds, strict=True):
        theirs[rows] = name
    ours = assign_splits(labels, groups, quarters, seed=0)
    assert worst_deviation(labels, ours, quarters) <= worst_deviation(labels, list(theirs), quarters)


def test_patients_with_many_images_are_in_no_split_more_often():
    labels, groups = cohort(2000)
    splits = assign_splits(labels, groups, THIRDS, seed=0)
    table = pl.DataFrame({"split": splits, "group": groups})
    a_patient = table.group_by("split").agg(pl.len() / pl.col("group").n_unique())["len"]
    assert a_patient.max() / a_patient.min() < 1.03


def test_another_seed_gives_other_splits_and_zero_is_a_seed():
    labels, groups = cohort(100)
    results = {tuple(assign_splits(labels, groups, THIRDS, seed)) for seed in (0, 0, 1, 2)}
    assert len(results) == 3


def test_too_few_patients_names_all_such_classes():
    labels, groups = ["a"] * 9 + ["b"] * 5 + ["c"] * 9, [*"123456789", *"xxyyy", *"zzzzzzzzz"]
    with pytest.raises(InputError, match=r"(?s)Too few in:\s+b: 2\s+c: 1\s.*dataset\.classes"):
        assign_splits(labels, groups, THIRDS, 0)


def test_classes_that_share_their_few_patients_are_refused():
    """Four patients, each class in three of them: two patients share a split, and some class has both."""
    with pytest.raises(InputError, match="share their few patients"):
        assign_splits(list("aaabbbcccddd"), list("123124134234"), THIRDS, 0)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.2), (0.5, 0.5), (0.2, -1)])
def test_bad_fractions(val, test):
    with pytest.raises(InputError, match=r"dataset\.val_fraction="):
        split_fractions(val, test)


def test_a_fraction_of_zero_leaves_the_split_out():
    assert set(assign_splits(["a"] * 4, list("1234"), split_fractions(0, 0.5), 0)) == {"train", "test"}


def table(splits: list[str | None]) -> pl.DataFrame:
    rows = {
        "path": [f"{n}.png" for n in range(len(splits))],
        "group_id": [f"g{n}" for n in range(len(splits))],
    }
    return pl.DataFrame(
        rows | {"label": ["a"] * len(splits), "split": splits}, schema_overrides={"split": pl.String}
    )


def as_dict(done: pl.DataFrame) -> dict[str, str]:
    return dict(done.select("group_id", "split").iter_rows())


def test_given_splits_are_kept():
    given = table(["train", "val", "test", "train", "test"])
    assert as_dict(complete_splits(given, THIRDS, 0)) == as_dict(given)


def test_a_split_that_the_source_lacks_comes_out_of_training():
    given = table(["train"] * 80 + ["test"] * 20)
    done = as_dict(complete_splits(given, THIRDS, 0))
    assert [done[f"g{n}"] for n in range(80, 100)] == ["test"] * 20
    assert Counter(done[f"g{n}"] for n in range(80)) == {"train": 64, "val": 16}  # 0.15 / (0.6 + 0.15)


def test_rows_without_a_split_are_dealt_and_follow_their_patient():
    given = table(["train", "val", "test"] + [None] * 97).with_columns(
        group_id=pl.Series(["t", "v", "s", "s", *(f"g{n}" for n in range(96))])
    )
    done = complete_splits(given, THIRDS, 0)
    assert done.filter(pl.col("group_id") == "s")["split"].to_list() == ["test"] * 2
    assert done["split"].null_count() == 0
    assert abs((done["split"] == "train").sum() - 60) < 4


def test_groups_across_given_splits_are_named():
    crossing = table(["train", "test", "val"]).with_columns(group_id=pl.Series(["p1", "p1", "p2"]))
    with pytest.raises(
        InputError, match=r"(?s)join 1 groups of patients.*p1: test, train \(0\.png, 1\.png\)"
    ):
        refuse_crossing(crossing)
    with pytest.raises(InputError, match="p1"):
        complete_splits(crossing, THIRDS, 0)
