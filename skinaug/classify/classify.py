"""The classify stage: a classifier trained on a mix, its checkpoint chosen on real validation images, judged on real test images."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from skinaug.backbone import set_image_size
from skinaug.classify.data import AugmentedPictures, PictureData, Pictures, make_transform
from skinaug.classify.module import ImageClassifier
from skinaug.errors import InputError
from skinaug.images import load_pixels
from skinaug.manifest import Manifest
from skinaug.metrics.classification import classification_metrics

CHECKPOINTS = "checkpoints"
RESUME_MINUTES = 2.0  # how much work a kill may cost


def classify(
    *,
    mix: Manifest,
    real: Manifest,
    backbone: Callable[..., nn.Module],
    cache: Path | None,
    trainer: Callable[..., L.Trainer],
    logger: Any,
    out: Path,
    **recipe: Any,
) -> None:
    """Train on `mix`, choose the checkpoint on real validation images, read the real test images once.

    Args:
        mix: training images.
        real: real images with the splits val and test.
        backbone, cache, trainer, logger: as in `fit_classifier`.
        out: receives metrics.json, predictions.parquet, curves.csv and model.safetensors.
        recipe: the other arguments of `fit_classifier`.

    Raises:
        InputError: no training, validation or test images.
    """
    val, test = real.split("val"), real.split("test")
    for name, images in {"mix": mix, "validation split": val, "test split": test}.items():
        if not len(images):
            raise InputError(f"The {name} has no images: a classifier cannot be trained and judged. Change the splits or the mix.")
    classifier = fit_classifier(
        backbone, train=mix, val=val, cache=cache, trainer=trainer, logger=logger, work=out, **recipe
    )
    metrics: dict[str, Any] = {"train": classifier.training}
    predictions = []
    for name, images in {"val": val, "test": test}.items():
        probabilities = classifier(images)
        metrics[name] = classification_metrics(probabilities, images.labels(), images.classes)
        predictions.append(prediction_rows(images, probabilities))
    if logger:
        logger.log_metrics({f"test/{name}": value for name, value in metrics["test"].items() if name != "per_class"})
    pl.concat(predictions).write_parquet(out / "predictions.parquet")
    pl.DataFrame(classifier.curves, infer_schema_length=None).write_csv(out / "curves.csv")
    save_file({name: tensor.contiguous() for name, tensor in classifier.network.state_dict().items()}, out / "model.safetensors")
    write_json(metrics, out / "metrics.json")
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def fit_classifier(
    backbone: Callable[..., nn.Module],
    image_size: int,
    steps: int,
    *,
    train: Manifest,
    val: Manifest | None,
    trainer: Callable[..., L.Trainer],
    batch_size: int = 32,
    val_every_steps: int = 20,
    patience: int = 10,
    monitor: str = "balanced_accuracy",
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = torch.optim.AdamW,
    warmup_steps: int = 10,
    label_smoothing: float = 0.1,
    class_weights: str | None = "balanced",
    augmentation: Mapping[str, Any] | None = None,
    seed: int = 0,
    cache: Path | None = None,
    logger: Any = False,
    work: Path | None = None,
) -> Classifier:
    """Train a classifier for a fixed number of steps.

    Args:
        backbone: makes the network from `num_classes`.
        image_size: pixels a side.
        steps: optimizer steps, whatever the number of training images.
        train: training images.
        val: images that choose the checkpoint (its earliest best score); None keeps the last one.
        trainer: makes a Lightning Trainer.
        batch_size: images a step.
        val_every_steps: steps between validations, rounded so that the last step is validated.
        patience: validations without a better score after which training stops early.
        monitor: the score: balanced_accuracy, top1, macro_f1 or auroc.
        optimizer: made from the parameters; its learning rate is the peak of a cosine schedule.
        warmup_steps: steps of rising learning rate before that.
        label_smoothing: in [0, 1).
        class_weights: "balanced" weights the loss by inverse class frequency, None does not.
        augmentation: keywords of timm's training transform; None augments nothing.
        seed: of the head, the order of the images and their augmentation.
        cache: file of decoded pictures.
        logger: a Lightning Logger or False.
        work: a folder for checkpoints, from which an interrupted training goes on; None: a temporary one.
    """
    L.seed_everything(seed, verbose=False)
    network = set_image_size(backbone(num_classes=len(train.classes)), image_size)
    pretrained_cfg = getattr(network, "pretrained_cfg", {})
    plain = make_transform(image_size, pretrained_cfg, None)
    augmented = plain if augmentation is None else make_transform(image_size, pretrained_cfg, augmentation)
    data = PictureData(
        AugmentedPictures(load_pixels(train, image_size, cache), train.labels(), augmented, seed),
        None if val is None else Pictures(load_pixels(val, image_size, cache), val.labels(), plain),
        batch_size,
        steps,
    )
    weights = balanced_weights(train) if class_weights == "balanced" else None
    loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=label_smoothing)
    module = ImageClassifier(network, train.classes, loss, optimizer, steps, min(warmup_steps, steps // 2))
    with TemporaryDirectory() as temporary:
        training = _Training(module, data, trainer, logger, (work or Path(temporary)) / CHECKPOINTS)
        training.run(steps, val_every_steps, patience, f"val/{monitor}")
    summary = {"images": len(train), **source_counts(train), **training.summary}
    return Classifier(module, image_size, trainer, cache, summary, training.curves.rows)
