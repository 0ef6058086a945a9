"""How well class probabilities agree with labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_confusion_matrix,
)

from skinaug.metrics import calibration

MAX_TOP_K = 5


def classification_metrics(
    probabilities: np.ndarray | Tensor, labels: np.ndarray | Tensor, classes: Sequence[str]
) -> dict[str, Any]:
    """All scores of a classifier on one set of images, each in [0, 1] but the Brier score, in [0, 2].

    Args:
        probabilities: float [N, C], rows that sum to 1.
        labels: int [N], class indices below C.
        classes: C names.

    Returns:
        `top1` to `top5` (as far as there are more classes than that), `balanced_accuracy` (mean recall), `macro_f1`,
        `auroc` (one class against the rest, macro mean; NaN where undefined), `ece`, `brier` and `aurc` (less is better;
        see `calibration`) and `per_class`: {name: recall, precision, f1, support}. Means over classes leave out those
        without images, as scikit-learn does.

    Raises:
        ValueError: no images, or shapes that do not go together.
    """
    p, y = torch.as_tensor(probabilities).float().cpu(), torch.as_tensor(labels).long().cpu()
    if p.ndim != 2 or p.shape[0] == 0 or p.shape != (y.numel(), len(classes)):
        raise ValueError(
            f"probabilities {tuple(p.shape)} do not go with {y.numel()} labels and {len(classes)} classes"
        )
    per_class = class_scores(p, y)
    counted = per_class["support"] + per_class["predicted"] > 0
    return {
        **top_k_accuracies(p, y),
        "balanced_accuracy": float(per_class["recall"][per_class["support"] > 0].mean()),
        "macro_f1": float(per_class["f1"][counted].mean()),
        "auroc": auroc(p, y),
        **calibration_scores(p.numpy(), y.numpy()),
        "per_class": {
            name: {
                "recall": float(per_class["recall"][c]),
                "precision": float(per_class["precision"][c]),
                "f1": float(per_class["f1"][c]),
                "support": int(per_class["support"][c]),
            }
            for c, name in enumerate(classes)
        },
    }


def top_k_accuracies(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of images whose label is among the k most probable classes: {"top1": ..., ...} for k up to 5 and below C."""
    num_classes = probabilities.shape[1]
    return {
        f"top{k}": float(multiclass_accuracy(probabilities, labels, num_classes, top_k=k, average="micro"))
        for k in range(1, max(min(MAX_TOP_K, num_classes - 1), 1) + 1)
    }


def calibration_scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Expected calibration error, Brier score and area under the risk-coverage curve."""
    return {
        "ece": calibration.ece(probabilities, labels),
        "brier": float(calibration.brier_terms(probabilities, labels).mean()),
        "aurc": float(calibration.aurc_terms(*calibration.confidences(probabilities, labels)).mean()),
    }


def class_scores(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Recall, precision, F1, support and number of predictions of each class, float [C]; 0 where undefined."""
    matrix = multiclass_confusion_matrix(probabilities, labels, probabilities.shape[1]).float()
    hits, support, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    return {
        "recall": hits / support.clamp(min=1),
        "precision": hits / predicted.clamp(min=1),
        "f1": 2 * hits / (support + predicted).clamp(min=1),
        "support": support,
        "predicted": predicted,
    }


def auroc(probabilities: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve, one class against the rest, mean over the classes that have images and do not have all.

    NaN where there is no such class.
    """
    num_classes = probabilities.shape[1]
    support = torch.bincount(labels, minlength=num_classes)
    defined = (support > 0) & (support < labels.numel())
    if not defined.any():
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the classes that are left out below
        areas = multiclass_auroc(probabilities, labels, num_classes, average=None, validate_args=False)
    return float(areas[defined].mean())
