"""Training of one classifier, for a fixed number of optimizer steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from skinaug.classify.data import (
    AugmentedPictures,
    DrawnVectors,
    PictureData,
    Pictures,
    Vectors,
    draw_rows,
    make_mixing,
    make_transform,
    phase_ends,
)
from skinaug.classify.loss import ClassificationLoss, targets
from skinaug.classify.loss import class_weights as class_weights_of
from skinaug.classify.module import ImageClassifier
from skinaug.classify.probe import Standardised, frozen_features, untrained_head
from skinaug.classify.settings import check_recipe
from skinaug.images import load_pixels
from skinaug.manifest import Manifest
from skinaug.models.backbone import set_image_size
from skinaug.models.checkpoints import resumable
from skinaug.models.trainer import ResumeCheckpoint

CHECKPOINTS = "checkpoints"
SAVE_EVERY = timedelta(minutes=2)  # a kill costs no more work than this


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
        parts = self.trainer().predict(self.module, DataLoader(self.inputs(images), self.batch_size))
        return torch.cat(parts).cpu().numpy()


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
        learns=learns,
        epochs=epochs,
        layer_decay=layer_decay,
        ema_decay=ema_decay,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        effective_beta=effective_beta,
        focal_gamma=focal_gamma,
        augmentation=augmentation,
        mixup=mixup,
        cutmix=cutmix,
    )
    loss = ClassificationLoss(
        class_weights_of(train, class_weights, effective_beta), label_smoothing, focal_gamma
    )
    steps = steps if epochs is None else max(math.ceil(epochs * len(train) / batch_size), 1)
    warmup_steps = min(warmup_steps, steps // 2)
    L.seed_everything(seed, verbose=False)
    network = set_image_size(backbone(num_classes=len(train.classes)), image_size)
    if freeze_batch_norm:
        freeze_statistics(network)
    frozen = None
    learner: nn.Module = network
    inputs: Callable[[Manifest], Dataset] = partial(_pictures, network, image_size, cache)
    if learns == "head":
        device = trainer().strategy.root_device
        frozen, vectors = frozen_features(network, image_size, train, cache, device)
        learner, inputs = untrained_head(network), partial(_vectors, frozen)
        drawn: DrawnVectors | AugmentedPictures = DrawnVectors(vectors, targets(train))
    else:
        transform = _transform(network, image_size, augmentation)
        pixels = load_pixels(train, image_size, cache)
        drawn = AugmentedPictures(pixels, targets(train), transform, seed, make_mixing(mixup, cutmix))
    module = ImageClassifier(learner, train.classes, loss, optimizer, steps, warmup_steps, layer_decay)
    rows = draw_rows(train.table, steps, batch_size, seed)
    data = PictureData(drawn, rows, None if val is None else inputs(val), batch_size, num_workers)
    curves = Curves(batch_size / len(train))
    with TemporaryDirectory() as temporary:
        folder = (work or Path(temporary)) / CHECKPOINTS
        *_, unjudged, _ = [0, *phase_ends(train.table, steps).values()]
        callbacks, best = training_callbacks(
            folder, f"val/{monitor}", patience, None if val is None else unjudged, ema_decay
        )
        run = trainer(
            max_steps=steps,
            callbacks=[curves, *callbacks],
            val_check_interval=steps // max(round(steps / val_every_steps), 1),
            limit_val_batches=0 if val is None else None,
            log_every_n_steps=10,
            logger=logger,
            default_root_dir=folder,
        )
        seconds = train_network(run, module, data, folder / "last.ckpt")
        best_step = load_best(module, best) if best else run.global_step
    sources = train.table["source"]
    training = {
        "images": len(train),
        "real": int((sources == "real").sum()),
        "synthetic": int((sources == "synthetic").sum()),
        "steps": run.global_step,
        "best_step": best_step,
        "seconds": round(seconds, 3),
        "images_per_second": round(curves.steps_here * batch_size / seconds, 1),
    }
    if frozen is not None:
        frozen.put_head(learner, network)
    alone = partial(trainer, devices=1, num_nodes=1, strategy="auto") if run.world_size > 1 else trainer
    return Classifier(network, module, inputs, 4 * batch_size, alone, training, curves.rows)


def freeze_statistics(network: nn.Module) -> None:
    """Make batch normalisation use its pretrained means and deviations in training too; scale and shift still learn.

    Layers whose statistics are still those of a fresh network go on collecting them.
    """
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            layer.train(
                not layer.running_mean.any()
            )  # Lightning leaves a module in the mode in which it finds it


def train_network(run: L.Trainer, module: ImageClassifier, data: PictureData, last: Path) -> float:
    """Fit, going on from the checkpoint `last` where it is whole. Returns seconds."""
    start = time.perf_counter()
    run.fit(module, data, ckpt_path=last if resumable(last) else None, weights_only=True)
    return time.perf_counter() - start


def training_callbacks(
    folder: Path, monitor: str, patience: int, judged_after: int | None, ema_decay: float | None
) -> tuple[list[Callback], ModelCheckpoint | None]:
    """Checkpoints to resume from and the best one after a step, with early stopping; None: there is nothing to judge by.

    With averaged weights, it is these that are judged and that a checkpoint holds.
    """
    common: dict[str, Any] = {"dirpath": folder, "auto_insert_metric_name": False}
    resume = ResumeCheckpoint(filename="last", train_time_interval=SAVE_EVERY, **common)
    average = [] if ema_decay is None else [EMAWeightAveraging(decay=ema_decay, use_buffers=False)]
    if judged_after is None:
        return [*average, resume], None
    # Lightning replaces the best checkpoint only by a strictly better one: of equals the earliest stays.
    # Lightning puts averaged weights into whole checkpoints only.
    best = LateCheckpoint(
        filename="best",
        monitor=monitor,
        mode="max",
        save_weights_only=not average,
        enable_version_counter=False,
        **common,
    )
    stop = LateStopping(monitor, mode="max", patience=patience, check_finite=False)
    best.judged_after = stop.judged_after = judged_after
    return [*average, best, resume, stop], best


class Late:
    """A callback that disregards validations up to the optimizer step `judged_after`."""

    judged_after = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step > self.judged_after:
            super().on_validation_end(trainer, pl_module)  # type: ignore[misc]


class LateCheckpoint(Late, ModelCheckpoint):
    """The best checkpoint after a step."""


class LateStopping(Late, EarlyStopping):
    """Early stopping after a step; a training that had stopped when it was interrupted stops again at once."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


def load_best(module: ImageClassifier, best: ModelCheckpoint) -> int:
    """Put the best checkpoint's weights into the module. Returns its step."""
    checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(checkpoint["state_dict"])
    return int(checkpoint["global_step"])


class Curves(Callback):
    """One row a validation: step, epoch (passes over the training images), mean training loss since, scores."""

    def __init__(self, epochs_a_step: float) -> None:
        self.epochs_a_step = epochs_a_step
        self.rows: list[dict[str, float]] = []
        self.losses: list[Tensor] = []
        self.steps_here = 0  # not those before a resume

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.losses.append(outputs["loss"])
        self.steps_here += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        scores = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")
        }
        step = trainer.global_step
        loss = float(torch.stack(self.losses).mean())
        self.rows.append(
            {"step": step, "epoch": round(step * self.epochs_a_step, 3), "train/loss": loss, **scores}
        )
        self.losses.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.losses = state_dict["rows"], state_dict["losses"]


def _vectors(frozen: Standardised, images: Manifest) -> Vectors:
    return Vectors(frozen(images), images.labels())


def _pictures(network: nn.Module, image_size: int, cache: Path | None, images: Manifest) -> Pictures:
    return Pictures(load_pixels(images, image_size, cache), images.labels(), _transform(network, image_size))


def _transform(network: nn.Module, image_size: int, augmentation: Mapping[str, Any] | None = None) -> Any:
    return make_transform(image_size, getattr(network, "pretrained_cfg", {}), augmentation)
