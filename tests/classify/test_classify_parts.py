"""The parts of a classifier's training, each against a closed form."""

from __future__ import annotations

import inspect
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import timm
import torch
import yaml

from skinaug.classify.classify import classify
from skinaug.classify.data import (
    AugmentedPictures,
    Batches,
    Pictures,
    draw_rows,
    make_mixing,
    make_transform,
    phase_ends,
    row_masses,
)
from skinaug.classify.fit import fit_classifier
from skinaug.classify.loss import ClassificationLoss
from skinaug.classify.module import make_optimizer, warmup_cosine
from skinaug.errors import InputError
from skinaug.models.trainer import share


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
    resumed = Batches(rows, 4)
    resumed.first = 8
    assert [pair for batch in resumed for pair in batch] == list(enumerate(rows.tolist()))[8:]


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_devices_share_every_batch(devices: int):
    rows = draw_rows(PLAIN, 6, 4, seed=3)
    shares = []
    for rank in range(devices):
        batches = Batches(rows, 4)
        batches.share = share(4, SimpleNamespace(global_rank=rank, world_size=devices))
        shares.append(list(batches))
    together = [[*chain(*parts)] for parts in zip(*shares, strict=True)]
    assert together == list(Batches(rows, 4))
    with pytest.raises(InputError, match="cannot be shared by 5 devices"):
        share(4, SimpleNamespace(global_rank=0, world_size=5))


def test_the_mean_of_the_devices_losses_is_that_of_the_batch():
    """Classes of different weights fall on the devices by chance: a mean of each device's own mean would be another loss."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(7, 3, generator=generator), torch.tensor([0, 0, 0, 0, 1, 2, 2])
    loss = ClassificationLoss(torch.tensor([0.2, 1.0, 3.0]), label_smoothing=0.1, focal_gamma=1.0)
    rows = torch.nn.functional.one_hot(labels, 3).float()
    parts = [slice(0, 4), slice(4, 7)]
    mean = sum((rows[part] * loss.class_weights).sum() for part in parts) / 2
    apart = [loss(logits[part], rows[part], lambda _: mean) for part in parts]
    torch.testing.assert_close(sum(apart) / 2, loss(logits, rows))


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


@pytest.mark.parametrize("augmentation", [{"color_jiter": 0.2}, {"auto_augment": "wide"}])
def test_augmentation_that_timm_does_not_know_is_refused(augmentation: dict):
    with pytest.raises(InputError, match=rf"augmentation=.*{next(iter(augmentation))}.*refuses it"):
        make_transform(64, {}, augmentation)


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


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 0.4), (0.4, 0.4)])
def test_targets_are_mixed_as_pictures_are(mixup: float, cutmix: float):
    """Flat pictures whose level is their class: a mixed picture's mean level is its mixed target's."""
    levels = np.arange(4, dtype=np.uint8)
    pixels = np.broadcast_to((60 * levels)[:, None, None, None], (4, 16, 16, 3)).copy()
    plain = make_transform(
        16, {"mean": (0.0,) * 3, "std": (1.0,) * 3}, {"scale": [1.0, 1.0], "color_jitter": None}
    )
    weights = torch.tensor([1.0, 0.5, 1.0, 2.0])
    rows = torch.eye(4) * weights
    data = AugmentedPictures(pixels, rows, plain, seed=0, mixing=make_mixing(mixup, cutmix))
    shares = []
    for first in range(0, 40, 4):
        batch = [(first + i, i) for i in range(4)]
        pictures, targets = (torch.stack(parts) for parts in zip(*data.__getitems__(batch), strict=True))
        again = torch.stack([target for _, target in data.__getitems__(batch)])
        assert torch.equal(targets, again), "a resumed training mixes alike"
        shares_of = targets / weights  # of each class in each picture
        torch.testing.assert_close(shares_of.sum(1), torch.ones(4))
        torch.testing.assert_close(
            pictures.mean((1, 2, 3)) * 255 / 60, shares_of @ torch.arange(4.0), atol=1e-3, rtol=0
        )
        shares.append(shares_of.max().item())
    assert min(shares) < 0.9
    assert len(set(shares)) > 5


def test_nothing_is_mixed_unasked():
    assert make_mixing(0, 0) is None


def test_lower_layers_learn_more_slowly():
    network = timm.create_model("test_vit", num_classes=3)
    optimizer = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.05)
    made = make_optimizer(optimizer, network, 0.5)
    rates = {
        id(p): (group["lr"], group["weight_decay"]) for group in made.param_groups for p in group["params"]
    }
    found = {name: rates[id(p)] for name, p in network.named_parameters()}
    assert found["head.weight"] == (1e-3, 0.05)
    assert found["head.bias"] == (1e-3, 0)
    depth = len(network.blocks)
    for block in range(depth):
        assert found[f"blocks.{block}.mlp.fc1.weight"] == pytest.approx((1e-3 * 0.5 ** (depth - block), 0.05))
    assert found["patch_embed.proj.weight"] == pytest.approx((1e-3 * 0.5 ** (depth + 1), 0.05))
    assert found["pos_embed"][1] == 0, "timm's own list of what does not decay"
    plain = make_optimizer(optimizer, network, None)
    assert [group["lr"] for group in plain.param_groups] == [1e-3]


def test_the_configuration_has_only_what_training_takes():
    config = yaml.safe_load((Path(__file__).parents[2] / "conf" / "classify" / "default.yaml").read_text())
    known = {*inspect.signature(fit_classifier).parameters, *inspect.signature(classify).parameters}
    assert {name for name in config if not name.startswith("_")} <= known
