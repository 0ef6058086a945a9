"""Training of one classifier, for a fixed number of optimizer steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from skinaug.classify.course import Course, Curves
from skinaug.classify.data import PictureData, draw_rows, last_phase_start, make_mixing
from skinaug.classify.learner import freeze_statistics, linear_head, whole_network
from skinaug.classify.loss import ClassificationLoss
from skinaug.classify.loss import class_weights as class_weights_of
from skinaug.classify.module import ImageClassifier, Predictor
from skinaug.classify.probe import one_thread
from skinaug.classify.settings import check_recipe
from skinaug.manifest import Manifest
from skinaug.models.backbone import make_network
from skinaug.models.checkpoints import resumable
from skinaug.models.folding import fold_norms, settled

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: call it with a Manifest for float32 [N, C] probabilities in the manifest's order.

    Attributes:
        network: from pictures to logits.
        module: what learned, and what predicts.
        inputs: a manifest's pictures, or their features, for prediction.
        training: what it was trained on and how: images, real, synthetic, steps, best_step, seconds, images_per_second.
        curves: one row a validation.
    """

    network: nn.Module
    module: ImageClassifier
    inputs: Callable[[Manifest], Dataset]
    batch_size: int
    trainer: Callable[..., L.Trainer]
    training: dict[str, float]
    curves: list[dict[str, float]]

    def __call__(self, images: Manifest) -> np.ndarray:
        return predict(self.module, self.inputs(images), self.batch_size, self.trainer)


def fit_classifier(
    backbone: Callable[..., nn.Module],
    image_size: int,
    steps: int,
    *,
    train: Manifest,
    val: Manifest | None,
    trainer: Callable[..., L.Trainer],
    learns: str = "network",
    epochs: float | None = None,
    batch_size: int = 32,
    val_every_steps: int = 20,
    patience: int = 10,
    monitor: str = "balanced_accuracy",
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = torch.optim.AdamW,
    warmup_steps: int = 10,
    layer_decay: float | None = None,
    ema_decay: float | None = None,
    label_smoothing: float = 0.1,
    class_weights: str | None = "balanced",
    effective_beta: float = 0.999,
    focal_gamma: float = 0.0,
    augmentation: Mapping[str, Any] | None = None,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    freeze_batch_norm: bool = False,
    num_workers: int = 0,
    seed: int = 0,
    cache: Path | None = None,
    logger: Any = False,
    work: Path | None = None,
) -> Classifier:
    """Train a classifier.

    Args:
        backbone: makes the network from `num_classes`.
        image_size: pixels a side.
        steps: optimizer steps, whatever the number of training images.
        train: training images; their manifest may tell how they are drawn and weighted (`data`).
        val: images that choose the checkpoint, the earliest of the best; None keeps the last step's. Of a training in phases
            only the last one is judged.
        trainer: makes a Lightning Trainer; on several devices these share each batch, and one of them predicts afterwards.
        learns: "network"; or "head": a linear probe on features of the frozen network, which are computed once a picture.
        epochs: passes over the training images, instead of `steps`: then a larger mix trains longer.
        batch_size: images a step.
        val_every_steps: steps between validations; lowered so that the last one falls on the last step, or just before.
        patience: validations without a better score after which training stops early.
        monitor: the score: balanced_accuracy, top1, macro_f1 or auroc.
        optimizer: made from the parameters; its learning rate is the peak of a cosine schedule.
        warmup_steps: steps of rising learning rate before that.
        layer_decay: learning rate of each layer over that of the next one towards the output, in (0, 1]; None: all alike.
        ema_decay: validate, choose and keep the exponential moving average of the weights, with this decay a step, in (0, 1).
        label_smoothing: in [0, 1).
        class_weights, effective_beta: as in `loss.class_weights`.
        focal_gamma: as in `loss.ClassificationLoss`.
        augmentation: keywords of timm's training transform; None augments nothing.
        mixup, cutmix: as in `data.make_mixing`.
        freeze_batch_norm: keep the pretrained means and deviations: for few images and pretrained weights.
        num_workers: processes that augment images; the result does not depend on it.
        seed: of the head's first weights, the order of the images and their augmentation.
        cache: file of decoded pictures.
        logger: a Lightning Logger or False.
        work: folder for checkpoints, from which an interrupted training goes on; None: a temporary one.

    Raises:
        InputError: a setting out of its range, the backbone cannot take the image size, or there are more devices than images
            in a batch.
    """
    check_recipe(
        learns=learns, epochs=epochs, layer_decay=layer_decay, ema_decay=ema_decay, label_smoothing=label_smoothing,
        class_weights=class_weights, effective_beta=effective_beta, focal_gamma=focal_gamma, augmentation=augmentation,
        mixup=mixup, cutmix=cutmix,
    )  # fmt: skip
    loss = ClassificationLoss(
        class_weights_of(train, class_weights, effective_beta), label_smoothing, focal_gamma
    )
    steps = steps if epochs is None else max(math.ceil(epochs * len(train) / batch_size), 1)
    L.seed_everything(seed, verbose=False)
    network = make_network(backbone, len(train.classes), image_size)
    if freeze_batch_norm:
        freeze_statistics(network)
    if learns == "head":
        learner = linear_head(network, image_size, train, cache, trainer().strategy.root_device)
    else:
        if freeze_batch_norm:
            # Not of a probe: its features are kept for all, and a rounding would tell them apart.
            fold_norms(network, image_size)
        mixing = make_mixing(mixup, cutmix)
        learner = whole_network(network, image_size, train, cache, augmentation, mixing, seed)
    module = ImageClassifier(
        learner.network, train.classes, loss, optimizer, steps, min(warmup_steps, steps // 2), layer_decay
    )
    judged = None if val is None else learner.inputs(val)
    rows = draw_rows(train.table, steps, batch_size, seed)
    data = PictureData(learner.drawn, rows, judged, batch_size, num_workers)
    judged_after = None if val is None else last_phase_start(train.table, steps)
    course = Course(steps, val_every_steps, judged_after, f"val/{monitor}", patience, ema_decay)
    curves = Curves(batch_size / len(train))
    with one_thread() if learns == "head" else nullcontext():
        run, told = _train(module, data, course, curves, partial(trainer, logger=logger), work)
    learner.finish()
    alone = partial(trainer, devices=1, num_nodes=1, strategy="auto") if run.world_size > 1 else trainer
    training = _sources(train) | told
    return Classifier(network, module, learner.inputs, batch_size, alone, training, curves.rows)


def predict(
    module: Predictor, images: Dataset, batch_size: int, trainer: Callable[..., L.Trainer]
) -> np.ndarray:
    """A classifier's probabilities of each image: float32 [N, C]."""
    with settled(module.network):
        parts = trainer().predict(module, DataLoader(images, batch_size))
    return torch.cat(parts).cpu().numpy()


def _sources(train: Manifest) -> dict[str, float]:
    """The numbers of all images and of those of each source."""
    sources = train.table["source"]
    counts = {source: int((sources == source).sum()) for source in ("real", "synthetic")}
    return {"images": len(train), **counts}


def _train(
    module: ImageClassifier,
    data: PictureData,
    course: Course,
    curves: Curves,
    trainer: Callable[..., L.Trainer],
    work: Path | None,
) -> tuple[L.Trainer, dict[str, float]]:
    """Train, and put the weights that are kept into the module. Returns the trainer and how it went."""
    with TemporaryDirectory() as temporary:
        folder = (work or Path(temporary)) / CHECKPOINTS
        callbacks, best = course.callbacks(folder)
        run = trainer(
            callbacks=[curves, *callbacks], **course.limits(), log_every_n_steps=10, default_root_dir=folder
        )
        seconds = train_network(run, module, data, folder / "last.ckpt")
        best_step = load_best(module, best) if best else run.global_step
    return run, {
        "steps": run.global_step,
        "best_step": best_step,
        "seconds": round(seconds, 3),
        "images_per_second": round(curves.steps_here * data.batch_size / seconds, 1),
    }


def train_network(run: L.Trainer, module: ImageClassifier, data: PictureData, last: Path) -> float:
    """Fit, going on from the checkpoint `last` where it is whole. Returns seconds."""
    start = time.perf_counter()
    run.fit(module, data, ckpt_path=last if resumable(last) else None, weights_only=True)
    return time.perf_counter() - start


def load_best(module: ImageClassifier, best: ModelCheckpoint) -> int:
    """Put the best checkpoint's weights into the module. Returns its step."""
    checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(checkpoint["state_dict"])
    return int(checkpoint["global_step"])
