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
from skinaug.classify.data import (
    AugmentedPictures,
    Pictures,
    Stream,
    draw_rows,
    make_transform,
    phase_ends,
    row_masses,
)
from skinaug.classify.fit import WeightedCrossEntropy, balanced_weights, fit_classifier
from skinaug.classify.module import warmup_cosine


def test_learning_rate_rises_then_falls_along_half_a_cosine():
    factors = [warmup_cosine(step, steps=110, warmup_steps=10) for step in range(111)]
    assert factors[:2] == pytest.approx([1 / 11, 2 / 11])
    assert factors[10] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0)
    assert np.all(np.diff(factors[10:]) < 0)


PLAIN = pl.DataFrame({"source": ["real"] * 7})


def told_apart(real: int, synthetic: int, share: float, phases: tuple[int, int]) -> pl.DataFrame:
    """Rows of both sources, of which the synthetic ones get `share` of the draws; phases of the real and synthetic ones."""
    sources = ["real"] * real + ["synthetic"] * synthetic
    about = {"real": (1 - share, phases[0]), "synthetic": (share, phases[1])}
    return pl.DataFrame(
        {
            "source": sources,
            "draw_share": [about[name][0] for name in sources],
            "draw_phase": [about[name][1] for name in sources],
        }
    )


def test_every_turn_holds_every_row_once():
    rows = draw_rows(PLAIN, steps=6, batch_size=4, seed=0).tolist()
    assert len(rows) == 24
    assert sorted(rows[:7]) == sorted(rows[7:14]) == sorted(rows[14:21]) == list(range(7))
    assert rows[:7] != rows[7:14]


def test_a_resumed_stream_goes_on_with_the_same_draws():
    rows = draw_rows(told_apart(3, 4, 0.4, (0, 0)), 6, 4, seed=3)
    resumed = Stream(rows)
    resumed.first = 10
    assert list(resumed) == list(enumerate(rows.tolist()))[10:]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_source_gets_its_share_of_the_draws_in_whole_shuffles(share: float):
    rows = draw_rows(told_apart(5, 20, share, (0, 0)), steps=500, batch_size=32, seed=1)
    synthetic = rows >= 5
    deviation = (share * (1 - share) / len(rows)) ** 0.5
    assert abs(synthetic.mean() - share) < 4 * deviation
    in_batches = synthetic.reshape(500, 32).sum(1)
    assert in_batches.var() == pytest.approx(32 * share * (1 - share), rel=0.25), "binomial, draw by draw"
    for own, count in ((rows[~synthetic], 5), (rows[synthetic] - 5, 20)):
        assert sorted(own[:count]) == sorted(own[count : 2 * count]) == list(range(count))
        assert np.ptp(np.bincount(own)) <= 1


@pytest.mark.parametrize(
    ("share", "steps", "end"), [(0.5, 10, 5), (0.3, 10, 3), (0.01, 10, 1), (0.99, 10, 9), (0.25, 2, 1)]
)
def test_one_phase_is_drawn_after_the_other(share: float, steps: int, end: int):
    images = told_apart(3, 5, share, (1, 0))
    assert phase_ends(images, steps) == {0: end, 1: steps}
    rows = draw_rows(images, steps, 4, seed=0)
    assert (rows[: 4 * end] >= 3).all()
    assert (rows[4 * end :] < 3).all()
    assert phase_ends(PLAIN, steps) == {0: steps}


def test_draws_follow_from_the_seed():
    images = told_apart(30, 30, 0.5, (0, 0))
    first, again, other = (draw_rows(images, 5, 8, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first < 30, other < 30)
    whole = draw_rows(images, 50, 8, 0)
    assert whole[whole < 30][:30].tolist() != (whole[whole >= 30][:30] - 30).tolist(), (
        "shuffled independently"
    )


def test_masses_are_the_expected_draws_times_the_weight():
    images = told_apart(5, 20, 0.4, (0, 0)).with_columns(loss_weight=pl.Series([1.0] * 5 + [0.5] * 20))
    rows = draw_rows(images, 2000, 20, seed=0)
    expected = np.bincount(rows) / len(rows) * images["loss_weight"].to_numpy()
    np.testing.assert_allclose(row_masses(images), expected, rtol=0.05)
    assert row_masses(PLAIN).tolist() == [1] * 7


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, torch.tensor([0.5, 1.0, 4.0])])
def test_a_weight_of_two_is_two_images(smoothing: float, class_weights: torch.Tensor | None):
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels, times = torch.tensor([0, 2, 1, 2]), torch.tensor([1, 2, 3, 1])
    plain = torch.nn.CrossEntropyLoss(class_weights, label_smoothing=smoothing)
    ours = WeightedCrossEntropy(class_weights, label_smoothing=smoothing)
    repeated = plain(logits.repeat_interleave(times, 0), labels.repeat_interleave(times))
    assert ours(logits, (labels, times.float())) == pytest.approx(float(repeated), rel=1e-6)
    assert ours(logits, (labels, torch.full((4,), 0.2))) == pytest.approx(
        float(plain(logits, labels)), rel=1e-6
    )


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


def test_class_weights_count_an_image_as_much_as_training_does(make_manifest):
    """Four times as many images of a class at a quarter of the weight need no balancing."""
    rows = [{"label": "a", "loss_weight": 0.25}] * 4 + [{"label": "b", "loss_weight": 1.0}]
    assert balanced_weights(make_manifest(rows)).tolist() == pytest.approx([1, 1])


def test_the_configuration_has_only_what_training_takes():
    config = yaml.safe_load((Path(__file__).parents[2] / "conf" / "classify" / "default.yaml").read_text())
    known = {*inspect.signature(fit_classifier).parameters, *inspect.signature(classify).parameters}
    assert {name for name in config if not name.startswith("_")} <= known
