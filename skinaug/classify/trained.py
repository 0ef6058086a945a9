"""A classifier of the store, made again from its weights, to be asked about further images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

from skinaug.classify.classify import prediction_rows
from skinaug.classify.data import Vectors
from skinaug.classify.fit import predict
from skinaug.classify.learner import pictures
from skinaug.classify.module import Predictor
from skinaug.classify.probe import frozen_body
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.metrics.classification import classification_metrics
from skinaug.models.backbone import make_network, untrained
from skinaug.store.files import write_text

PROBABILITY = "p:"  # in front of a class's name, in columns of predictions
Asked = Callable[[Manifest], np.ndarray]  # images to probabilities, float32 [N, C]


def load_classifier(
    folder: Path,
    backbone: Callable[..., nn.Module],
    recipe: Mapping[str, Any],
    trainer: Callable[..., L.Trainer],
    cache: Path | None,
) -> Asked:
    """A trained classifier: call it with a Manifest for float32 [N, C] probabilities, as `fit.Classifier`.

    Args:
        folder: of its artifact.
        backbone: made its network from `num_classes`.
        recipe: `image_size`, `learns` and `batch_size` that it was trained with.
        trainer: makes a Lightning Trainer of one device.
        cache: file of what was computed of each picture.

    Raises:
        InputError: the weights are not those of the backbone.
    """
    size, weights = recipe["image_size"], folder / "model.safetensors"
    network = make_network(untrained(backbone), len(classes_of(folder)), size)
    try:
        network.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{weights} does not fit the backbone that it was trained with ({str(error).splitlines()[0]}). Was that one's code or "
            "this file changed since?"
        ) from error
    module, inputs = Predictor(network.eval()), partial(pictures, network, size, cache)
    if recipe["learns"] == "head":  # as it was trained: on features that are computed once a picture
        embed = frozen_body(network, size, cache, trainer().strategy.root_device)
        module, inputs = Predictor(network.get_classifier()), partial(_vectors, embed)  # type: ignore[operator]
    return lambda images: predict(module, inputs(images), recipe["batch_size"], trainer)


def classes_of(folder: Path) -> list[str]:
    """The classes of a classifier's artifact, in the order of its logits."""
    columns = pl.read_parquet_schema(folder / "predictions.parquet")
    return [name.removeprefix(PROBABILITY) for name in columns if name.startswith(PROBABILITY)]


def evaluate(classifier: Asked, images: Manifest, out: Path) -> None:
    """Write predictions.parquet and metrics.json (`test`) of a classifier on a further test set, as `classify.classify` does."""
    probabilities = classifier(images)
    prediction_rows(images, probabilities).write_parquet(out / "predictions.parquet")
    metrics = {"test": classification_metrics(probabilities, images.labels(), images.classes)}
    write_text(out / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def _vectors(embed: Callable[[Manifest], np.ndarray], images: Manifest) -> Dataset:
    return Vectors(torch.from_numpy(embed(images)), images.labels())
