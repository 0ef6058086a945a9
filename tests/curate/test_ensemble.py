"""The ensemble filter on an easy set with some labels wrong."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from coloured import coloured_images

from skinaug.classify.fit import fit_classifier
from skinaug.curate.filters.ensemble import Ensemble, without_each_fold
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.models.backbone import create_backbone
from skinaug.models.trainer import make_trainer

FIT = partial(
    fit_classifier,
    partial(create_backbone, "test_resnet", pretrained=False),
    image_size=32,
    steps=30,
    batch_size=16,
    optimizer=partial(torch.optim.AdamW, lr=3e-3),
)


@pytest.fixture
def real(tmp_path: Path) -> Manifest:
    return coloured_images(tmp_path / "real", {"train": 12})


def test_keeps_right_labels_and_rejects_wrong_ones(real: Manifest, tmp_path: Path):
    right = coloured_images(tmp_path / "pool", {"train": 5}, seed=1, source="synthetic")
    swap = {"red": "green", "green": "blue", "blue": "red"}
    wrong = coloured_images(tmp_path / "pool", {"train": 5}, seed=2, source="synthetic", labels=swap)
    pool = Manifest.concat([right, wrong])
    filter_ = Ensemble(FIT, members=2)
    scores = filter_.score(pool, real, trainer=partial(make_trainer, accelerator="cpu"), cache=None)
    kept = pool.table.filter(filter_.keep(scores, agreement=1.0)["keep"])
    assert scores["image_id"].to_list() == pool.table["image_id"].to_list()
    kept_right = kept["image_id"].is_in(right.table["image_id"].to_list())
    assert kept_right.sum() >= 13
    assert (~kept_right).sum() <= 1


def fake_fit(answers: list[np.ndarray]):
    """Members that give these probabilities in turn, and the training sets that they were given."""
    seen = []

    def fit(*, train: Manifest, val: None, seed: int, trainer, cache):
        seen.append((train, seed))
        return lambda pool: answers[len(seen) - 1]

    return fit, seen


def test_scores_are_shares_and_means(real: Manifest):
    pool = real.where(pl.col("image_id").str.contains("-0$"))  # blue, green, red
    answers = [np.eye(3), np.full((3, 3), [0.5, 0.3, 0.2])]
    fit, seen = fake_fit(answers)
    scores = Ensemble(fit, members=2, seed=7).score(pool, real, trainer=None, cache=None)
    assert scores["intended"].to_list() == ["blue", "green", "red"]
    assert scores["agreement"].to_list() == [1.0, 0.5, 0.5]
    assert scores["probability"].to_list() == pytest.approx([0.75, 0.65, 0.6])
    assert [seed for _, seed in seen] == [7, 8]


def test_members_leave_out_patients_that_together_are_all(real: Manifest):
    patients = set(real.table["group_id"])
    left_out = [patients - set(part.table["group_id"]) for part in without_each_fold(real, 3, seed=0)]
    assert set.union(*left_out) == patients
    assert sum(map(len, left_out)) == len(patients)
    for part in without_each_fold(real, 3, seed=0):
        assert part.table["label"].n_unique() == 3


def scored(intended: list[str], agreement: list[float], probability: list[float]) -> pl.DataFrame:
    judged = {"intended": intended, "agreement": agreement, "probability": probability}
    return pl.DataFrame(judged).with_columns(judges=pl.lit(3))


def test_thresholds():
    scores = scored(["a", "a", "b"], [1 / 3, 2 / 3, 1.0], [0.9, 0.2, 0.6])
    keep = Ensemble(FIT, members=3).keep
    assert keep(scores).rows() == [(False, "taken for another class"), (True, None), (True, None)]
    assert keep(scores, agreement=2 / 3, probability=0.5).rows() == [
        (False, "taken for another class"), (False, "improbable"), (True, None)
    ]  # fmt: skip
    for bad in ({"agreement": 2}, {"probability": -0.1}, {"min_per_class": -1}, {"max_per_class": 1.5}):
        with pytest.raises(InputError, match=rf"keep\.{next(iter(bad))}="):
            keep(scores, **bad)
    with pytest.raises(InputError, match="at most 1 and at least 2"):
        keep(scores, min_per_class=2, max_per_class=1)


def test_the_most_probable_fill_up_a_class_that_would_be_too_small():
    scores = scored(
        ["a"] * 4 + ["b"] * 3, [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0.1, 0.2, 0.4, 0.3, 0.5, 0.6, 0.7]
    )
    kept = Ensemble(FIT, members=3).keep(scores, min_per_class=2)
    assert kept["keep"].to_list() == [True, False, True, False, True, True, True]
    assert kept["reason"][2] == "fills its class up"


def test_the_best_of_a_class_are_kept_up_to_a_number():
    scores = scored(["a"] * 4, [1.0, 1.0, 1.0, 0.0], [0.5, 0.9, 0.7, 0.99])
    keep = Ensemble(FIT, members=3).keep
    assert keep(scores, max_per_class=2)["keep"].to_list() == [False, True, True, False]
    assert keep(scores, max_per_class=2)["reason"][0] == "beyond the most probable of its class"
    exactly = keep(scores, max_per_class=4, min_per_class=4)
    assert exactly["keep"].all()


def test_an_image_is_judged_only_by_members_that_never_saw_its_parents_patient(real: Manifest):
    """Member i answers `right` for everything, member j `wrong`: each image's verdict tells who judged it."""
    training = without_each_fold(real, 3, seed=0)
    parents = real.table["image_id"].to_list()
    pool = real.with_table(real.table.with_columns(parents=pl.Series([[name] for name in parents])))
    for judge in range(3):
        answers = [
            np.eye(3)[pool.labels()] if member == judge else np.full((len(pool), 3), 0.0)
            for member in range(3)
        ]
        for member, answer in enumerate(answers):
            if member != judge:
                answer[np.arange(len(pool)), (np.array(pool.labels()) + 1) % 3] = 1
        fit, _ = fake_fit(answers)
        scores = Ensemble(fit, members=3, seed=0).score(pool, real, trainer=None, cache=None)
        blind = [patient not in set(training[judge].table["group_id"]) for patient in pool.table["group_id"]]
        assert scores["judges"].to_list() == [1] * len(pool)
        assert scores["agreement"].to_list() == [float(it) for it in blind]
        assert scores["probability"].to_list() == [float(it) for it in blind]


def test_without_a_blind_judge_an_image_is_rejected(real: Manifest):
    training = without_each_fold(real, 2, seed=0)
    first = real.where(~pl.col("group_id").is_in(training[0].table["group_id"].to_list())).table["image_id"][
        0
    ]
    second = real.where(~pl.col("group_id").is_in(training[1].table["group_id"].to_list())).table["image_id"][
        0
    ]
    two = real.table.head(2).with_columns(parents=pl.Series([[first, second], []], dtype=pl.List(pl.String)))
    fit, _ = fake_fit([np.eye(3)[[0, 0]], np.eye(3)[[0, 0]]])
    filter_ = Ensemble(fit, members=2)
    scores = filter_.score(real.with_table(two), real, trainer=None, cache=None)
    assert scores["judges"].to_list() == [0, 2]
    assert scores["agreement"].to_list() == [None, 1.0]
    assert filter_.keep(scores, agreement=0.0).rows() == [
        (False, "no judge that is blind to its parents"),
        (True, None),
    ]


def test_too_few_members_or_patients_are_refused(real: Manifest):
    with pytest.raises(InputError, match="members=1 is no ensemble"):
        Ensemble(FIT, members=1)
    with pytest.raises(InputError, match="50 classifiers need as many patients, and there are 18"):
        without_each_fold(real, 50, seed=0)
