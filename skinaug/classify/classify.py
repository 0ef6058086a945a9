"""The classify stage: trained on a mix, its checkpoint chosen by real validation images, judged on real test images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
from lightning.pytorch.utilities import rank_zero_only
from safetensors.torch import save_file
from torch import nn

from skinaug.classify.fit import CHECKPOINTS, Classifier, fit_classifier
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.metrics.classification import classification_metrics
from skinaug.metrics.gap import unused_synthetic
from skinaug.metrics.operating_points import operating_metrics
from skinaug.metrics.ranking import ranking_metrics
from skinaug.store.files import write_text


def classify(
    *,
    mix: Manifest,
    real: Manifest,
    backbone: Callable[..., nn.Module],
    cache: Path | None,
    trainer: Callable[..., L.Trainer],
    logger: Any,
    out: Path,
    pool: Manifest | None = None,
    **recipe: Any,
) -> None:
    """Train on `mix`, choose the checkpoint by real validation images, then read the real test images once.

    Synthetic images that were left out of the mix are asked about too: how much easier are they than real ones?

    Args:
        mix: training images.
        real: real images, of which the splits val and test are used.
        backbone, cache, trainer, logger: as in `fit.fit_classifier`.
        out: receives metrics.json, predictions.parquet (splits val, test and, where images are left of the pool, synthetic),
            curves.csv and model.safetensors.
        pool: synthetic images that the mix drew from.
        recipe: the other arguments of `fit.fit_classifier`.

    Raises:
        InputError: no training, validation or test images.
    """
    val, test = real.split("val"), real.split("test")
    for name, images in {"mix": mix, "validation split": val, "test split": test}.items():
        if not len(images):
            raise InputError(
                f"The {name} has no images, so no classifier can be trained and judged. Change the splits or the mix."
            )
    classifier = fit_classifier(
        backbone, train=mix, val=val, cache=cache, trainer=trainer, logger=logger, work=out, **recipe
    )
    if rank_zero_only.rank != 0:
        return  # of several devices one goes on
    judged = {"val": val, "test": test}
    if pool is not None and len(unused := unused_synthetic(pool, mix, val)):
        judged["synthetic"] = unused
    probabilities = {split: classifier(images) for split, images in judged.items()}
    metrics: dict[str, dict[str, Any]] = {"train": classifier.training} | {
        split: classification_metrics(probabilities[split], images.labels(), images.classes)
        for split, images in judged.items()
    }
    if logger:
        told = {name: value for name, value in metrics["test"].items() if name != "per_class"}
        on_val, on_test = (
            (probabilities[split], np.array(judged[split].labels())) for split in ("val", "test")
        )
        further = ranking_metrics(*on_test) | operating_metrics(on_val, on_test)
        told |= {name: value for name, value in further.items() if np.isfinite(value)}
        logger.log_metrics({f"test/{name}": value for name, value in told.items()})
    predictions = [
        prediction_rows(images, probabilities[split]).with_columns(split=pl.lit(split))
        for split, images in judged.items()
    ]
    save(classifier, pl.concat(predictions), metrics, out)


def save(
    classifier: Classifier, predictions: pl.DataFrame, metrics: Mapping[str, Mapping[str, Any]], out: Path
) -> None:
    """Write a judged classifier, the metrics last; the training's checkpoints are not needed any more."""
    predictions.write_parquet(out / "predictions.parquet")
    pl.DataFrame(classifier.curves).write_csv(out / "curves.csv")
    tensors = classifier.network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "model.safetensors")
    write_text(out / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def prediction_rows(images: Manifest, probabilities: np.ndarray) -> pl.DataFrame:
    """One row an image: image_id, group_id, split, label, prediction and `p:<class>` for each class."""
    columns = {f"p:{name}": probabilities[:, c] for c, name in enumerate(images.classes)}
    prediction = [images.classes[c] for c in probabilities.argmax(1)]
    rows = images.table.select("image_id", "group_id", "split", "label")
    return rows.with_columns(
        prediction=pl.Series(prediction, dtype=pl.String), **{k: pl.Series(v) for k, v in columns.items()}
    )
