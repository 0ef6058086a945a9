"""The loss and its weights, against torch's own and closed forms."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from skinaug.classify.loss import ClassificationLoss, class_weights, targets

WEIGHTS = torch.tensor([0.5, 1.0, 4.0])


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_weight_of_two_is_two_images(logits: torch.Tensor, smoothing: float, weights: torch.Tensor | None):
    labels, times = torch.tensor([0, 2, 1, 2]), torch.tensor([1, 2, 3, 1])
    plain = torch.nn.CrossEntropyLoss(weights, label_smoothing=smoothing)
    ours = ClassificationLoss(weights, label_smoothing=smoothing)
    one_hot = torch.eye(3)[labels]
    repeated = plain(logits.repeat_interleave(times, 0), labels.repeat_interleave(times))
    assert ours(logits, one_hot * times[:, None]) == pytest.approx(float(repeated), rel=1e-6)
    assert ours(logits, 0.2 * one_hot) == pytest.approx(float(plain(logits, labels)), rel=1e-6)


def test_a_mixed_target_is_the_mean_of_its_classes(logits: torch.Tensor):
    """Weights of the classes are those of torch's cross-entropy with probabilities as targets."""
    mixed = torch.tensor([[0.3, 0.7, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    plain = torch.nn.functional.cross_entropy(logits, mixed, WEIGHTS, reduction="none", label_smoothing=0.1)
    expected = plain.sum() / (mixed @ WEIGHTS).sum()
    assert ClassificationLoss(WEIGHTS, 0.1)(logits, mixed) == pytest.approx(float(expected), rel=1e-6)


def test_focal_loss_is_torchvisions_for_two_classes():
    """Two logits (0, z) are a sigmoid's one; gamma 0 is cross-entropy."""
    z = torch.linspace(-4, 4, 9)
    logits, labels = torch.stack([torch.zeros(9), z], 1), torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1])
    for gamma in (0.0, 0.5, 2.0):
        expected = sigmoid_focal_loss(z, labels.float(), alpha=-1, gamma=gamma, reduction="mean")
        found = ClassificationLoss(focal_gamma=gamma)(logits, torch.eye(2)[labels])
        assert found == pytest.approx(float(expected), rel=1e-5)


def test_targets_hold_the_loss_weight_at_the_class(make_manifest):
    images = make_manifest([{"label": "b", "loss_weight": 0.25}, {"label": "a", "loss_weight": 1.0}])
    assert targets(images).tolist() == [[0, 0.25], [1, 0]]
    assert targets(make_manifest([{"label": "b"}, {"label": "a"}])).tolist() == [[0, 1], [1, 0]]


def test_balanced_weights_make_classes_count_alike(make_manifest):
    images = make_manifest([{"label": label} for label in "aaab"], classes=("a", "b", "c"))
    weights = class_weights(images, "balanced")
    assert weights is not None
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
    for kind in ("balanced", "effective_number"):
        found = class_weights(make_manifest(rows), kind)
        assert found is not None
        assert found.tolist() == pytest.approx([1, 1])


def test_effective_numbers_are_published_ones(make_manifest):
    images = make_manifest([{"label": label} for label in "a" * 30 + "b" * 3])
    found = class_weights(images, "effective_number", beta=0.9)
    assert found is not None
    inverse = np.array([0.1 / (1 - 0.9**30), 0.1 / (1 - 0.9**3)])
    assert float(found[1] / found[0]) == pytest.approx(inverse[1] / inverse[0])
    assert found.numpy()[images.labels()].mean() == pytest.approx(1)
    none = class_weights(images, "effective_number", beta=0.0)
    assert none is not None
    assert none.tolist() == pytest.approx([1, 1])
    nearly = class_weights(images, "effective_number", beta=1 - 1e-9)
    balanced = class_weights(images, "balanced")
    assert nearly is not None
    assert balanced is not None
    assert nearly.tolist() == pytest.approx(balanced.tolist(), rel=1e-4)


def test_no_weights_are_none(make_manifest):
    assert class_weights(make_manifest([{"label": "a"}]), None) is None
