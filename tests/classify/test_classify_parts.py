"""The parts of a classifier's training, each against a closed form."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from skinaug.classify.classify import classify
from skinaug.classify.data import AugmentedPictures, Pictures, Stream, make_transform
from skinaug.classify.fit import balanced_weights, fit_classifier
from skinaug.classify.module import warmup_cosine


def test_learning_rate_rises_then_falls_along_half_a_cosine():
    factors = [warmup_cosine(step, steps=110, warmup_steps=10) for step in range(111)]
    assert factors[:2] == pytest.approx([1 / 11, 2 / 11])
    assert factors[10] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0)
    assert np.all(np.diff(factors[10:]) < 0)


def test_every_turn_of_the_stream_holds_every_row_once():
    draws = list(Stream(num_rows=7, num_draws=24, seed=0))
    assert [draw for draw, _ in draws] == list(range(24))
    rows = [row for _, row in draws]
    assert sorted(rows[:7]) == sorted(rows[7:14]) == sorted(rows[14:21]) == list(range(7))
    assert rows[:7] != rows[7:14]


def test_a_resumed_stream_goes_on_with_the_same_draws():
    whole, resumed = Stream(7, 24, seed=3), Stream(7, 24, seed=3)
    resumed.first = 10
    assert list(resumed) == list(whole)[10:]


def test_augmentation_follows_from_the_seed_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    transform = make_transform(
        16, {}, {"scale": [0.5, 1.0], "color_jitter": 0.3, "auto_augment": "rand-m9-mstd0.5"}
    )

    def batch(seed: int, before: int) -> torch.Tensor:
        torch.manual_seed(before)
        data = AugmentedPictures(pixels, [0] * 5, transform, seed)
        return torch.stack([image for image, _ in data.__getitems__([(8, 1), (9, 4)])])

    assert torch.equal(batch(0, before=1), batch(0, before=2))
    assert not torch.equal(batch(0, before=1), batch(1, before=1))


def test_augmentation_leaves_the_global_generators_alone():
    data = AugmentedPictures(
        np.zeros((2, 16, 16, 3), np.uint8), [0, 0], make_transform(16, {}, {"hflip": 0.5}), 0
    )
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    data.__getitems__([(0, 0), (1, 1)])
    assert torch.equal(torch.rand(3), expected)


def test_evaluation_changes_no_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 20, 3), np.uint8)
    transform = make_transform(20, {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}, None)
    image, label = Pictures(pixels, [4], transform)[0]
    np.testing.assert_allclose(image, pixels[0].transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    assert label == 4


def test_class_weights_make_classes_count_alike(make_manifest):
    images = make_manifest([{"label": label} for label in "aaab"], classes=("a", "b", "c"))
    weights = balanced_weights(images)
    assert weights.tolist() == pytest.approx([4 / 9, 4 / 3, 0])
    sums = (
        pl.DataFrame({"label": images.labels()})
        .with_columns(w=weights.numpy()[images.labels()])
        .group_by("label")
        .sum()
    )
    assert sums["w"].n_unique() == 1


def test_the_configuration_has_only_what_training_takes():
    config = yaml.safe_load((Path(__file__).parents[2] / "conf" / "classify" / "default.yaml").read_text())
    known = {*inspect.signature(fit_classifier).parameters, *inspect.signature(classify).parameters}
    assert {name for name in config if not name.startswith("_")} <= known
