"""Scores against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from skinaug.metrics import calibration
from skinaug.metrics.classification import classification_metrics

CLASSES = ("acne", "eczema", "nevus", "psoriasis", "tinea", "vitiligo")


def random_predictions(
    num_images: int, absent: tuple[int, ...] = (), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    present = [c for c in range(len(CLASSES)) if c not in absent]
    labels = rng.choice(present, num_images)
    logits = rng.normal(size=(num_images, len(CLASSES)))
    logits[np.arange(num_images), labels] += 1
    probabilities = np.exp(logits)
    return (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("absent", [(), (2,), (0, 5)])
def test_agrees_with_scikit_learn(absent: tuple[int, ...]):
    p, y = random_predictions(300, absent)
    scores, everything, predicted = classification_metrics(p, y, CLASSES), range(6), p.argmax(1)
    for k in range(1, 6):
        assert scores[f"top{k}"] == pytest.approx(sk.top_k_accuracy_score(y, p, k=k, labels=everything))
    present = [c for c in everything if c not in absent]
    assert scores["balanced_accuracy"] == pytest.approx(
        sk.recall_score(y, predicted, labels=present, average="macro")
    )
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(y, predicted, average="macro", zero_division=0))
    areas = [sk.roc_auc_score(y == c, p[:, c]) for c in present]
    assert scores["auroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert scores["brier"] == pytest.approx(
        sk.brier_score_loss(y, p, labels=everything, scale_by_half=False), abs=1e-6
    )
    risks = [
        np.mean(predicted[np.argsort(-p.max(1))[:k]] != y[np.argsort(-p.max(1))[:k]]) for k in range(1, 301)
    ]
    assert scores["aurc"] == pytest.approx(np.mean(risks))
    assert scores["ece"] == pytest.approx(calibration.ece(p, y))


def test_each_class_agrees_with_scikit_learn():
    p, y = random_predictions(200)
    columns = sk.precision_recall_fscore_support(y, p.argmax(1), labels=range(6))
    for name, precision, recall, f1, support in zip(CLASSES, *columns, strict=True):
        found = classification_metrics(p, y, CLASSES)["per_class"][name]
        assert found == pytest.approx(
            {"precision": precision, "recall": recall, "f1": f1, "support": support}
        )


def test_two_classes_have_no_top2():
    scores = classification_metrics(np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1]), ("a", "b"))
    assert [name for name in scores if name.startswith("top")] == ["top1"]
    assert (scores["top1"], scores["balanced_accuracy"], scores["auroc"]) == (0.5, 0.5, 1.0)


def test_one_class_alone_has_no_auroc():
    scores = classification_metrics(np.array([[0.8, 0.2]]), np.array([0]), ("a", "b"))
    assert np.isnan(scores["auroc"])
    assert scores["balanced_accuracy"] == 1


def test_shapes_must_go_together():
    with pytest.raises(ValueError, match=r"probabilities \(2, 2\) do not go with 3 labels"):
        classification_metrics(np.full((2, 2), 0.5), np.array([0, 1, 1]), ("a", "b"))
