"""Training of one classifier, for a fixed number of optimizer steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from skinaug.backbone import set_image_size
from skinaug.classify.data import (
    AugmentedPictures,
    PictureData,
    Pictures,
    Target,
    draw_rows,
    make_transform,
    phase_ends,
    row_masses,
)
from skinaug.classify.module import ImageClassifier
from skinaug.errors import InputError
from skinaug.images import load_pixels
from skinaug.manifest import Manifest

CHECKPOINTS = "checkpoints"
SAVE_EVERY = timedelta(minutes=2)  # a kill costs no more work than this


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: call it with a Manifest for float32 [N, C] probabilities in the manifest's order.

    `training` tells what it was trained on and how (images, real, synthetic, steps, best_step, seconds,
    images_per_second); `curves` has one row a validation.
    """

    module: ImageClassifier
    image_size: int
    batch_size: int
    cache: Path | None
    trainer: Callable[..., L.Trainer]
    training: dict[str, float]
    curves: list[dict[str, float]]

    def __call__(self, images: Manifest) -> np.ndarray:
        pictures = _pictures(images, self.module, self.image_size, self.cache)
        parts = self.trainer().predict(self.module, DataLoader(pictures, self.batch_size))
        return torch.cat(parts).cpu().numpy()


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
        trainer: makes a Lightning Trainer on one device.
        batch_size: images a step.
        val_every_steps: steps between validations; lowered so that the last one falls on the last step, or just before.
        patience: validations without a better score after which training stops early.
        monitor: the score: balanced_accuracy, top1, macro_f1 or auroc.
        optimizer: made from the parameters; its learning rate is the peak of a cosine schedule.
        warmup_steps: steps of rising learning rate before that.
        label_smoothing: in [0, 1).
        class_weights: "balanced" weights the loss by inverse class frequency in training; None does not.
        augmentation: keywords of timm's training transform; None augments nothing.
        freeze_batch_norm: keep the pretrained means and deviations: for few images and pretrained weights.
        num_workers: processes that augment images; the result does not depend on it.
        seed: of the head's first weights, the order of the images and their augmentation.
        cache: file of decoded pictures.
        logger: a Lightning Logger or False.
        work: folder for checkpoints, from which an interrupted training goes on; None: a temporary one.

    Raises:
        InputError: the backbone cannot take the image size, or the trainer has several devices.
    """
    L.seed_everything(seed, verbose=False)
    network = set_image_size(backbone(num_classes=len(train.classes)), image_size)
    if freeze_batch_norm:
        freeze_statistics(network)
    weights = balanced_weights(train) if class_weights == "balanced" else None
    weighted = "loss_weight" in train.table.columns
    loss = (WeightedCrossEntropy if weighted else nn.CrossEntropyLoss)(
        weights, label_smoothing=label_smoothing
    )
    warmup_steps = min(warmup_steps, steps // 2)
    module = ImageClassifier(network, train.classes, loss, optimizer, steps, warmup_steps)
    transform = _transform(module, image_size, augmentation)
    data = PictureData(
        AugmentedPictures(load_pixels(train, image_size, cache), targets(train), transform, seed),
        draw_rows(train.table, steps, batch_size, seed),
        None if val is None else _pictures(val, module, image_size, cache),
        batch_size,
        num_workers,
    )
    curves = Curves(batch_size / len(train))
    with TemporaryDirectory() as temporary:
        folder = (work or Path(temporary)) / CHECKPOINTS
        *_, unjudged, _ = [0, *phase_ends(train.table, steps).values()]
        callbacks, best = training_callbacks(
            folder, f"val/{monitor}", patience, None if val is None else unjudged
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
    return Classifier(module, image_size, 4 * batch_size, cache, trainer, training, curves.rows)


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
    """Fit, going on from the checkpoint `last` where there is one. Returns seconds."""
    if run.world_size > 1:
        raise InputError(
            f"A classifier trains on one device, not {run.world_size}: set trainer.devices=1 and run jobs in parallel."
        )
    start = time.perf_counter()
    run.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=True)
    return time.perf_counter() - start


def training_callbacks(
    folder: Path, monitor: str, patience: int, judged_after: int | None
) -> tuple[list[Callback], ModelCheckpoint | None]:
    """Checkpoints to resume from and the best one after a step, with early stopping; None: there is nothing to judge by."""
    common: dict[str, Any] = {
        "dirpath": folder,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    resume = ModelCheckpoint(filename="last", train_time_interval=SAVE_EVERY, **common)
    if judged_after is None:
        return [resume], None
    # Lightning replaces the best checkpoint only by a strictly better one: of equals the earliest stays.
    best = LateCheckpoint(filename="best", monitor=monitor, mode="max", save_weights_only=True, **common)
    stop = LateStopping(monitor, mode="max", patience=patience, check_finite=False)
    best.judged_after = stop.judged_after = judged_after
    return [best, resume, stop], best


class Late:
    """A callback that disregards validations up to the optimizer step `judged_after`."""

    judged_after = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step > self.judged_after:
            super().on_validation_end(trainer, pl_module)  # type: ignore[misc]


class LateCheckpoint(Late, ModelCheckpoint):
    """The best checkpoint after a step."""


class LateStopping(Late, EarlyStopping):
    """Early stopping after a step."""


def load_best(module: ImageClassifier, best: ModelCheckpoint) -> int:
    """Put the best checkpoint's weights into the module. Returns its step."""
    checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(checkpoint["state_dict"])
    return int(checkpoint["global_step"])


def balanced_weights(images: Manifest) -> Tensor:
    """Loss weights of the classes, N / (C n_c): float32 [C]; absent classes, which no loss can hit, get 0.

    N and n_c count an image by `data.row_masses`: as often as it is drawn, and as much as it weighs.
    """
    counts = np.bincount(images.labels(), row_masses(images.table), len(images.classes))
    weights = np.divide(counts.sum(), len(counts) * counts, out=np.zeros(len(counts)), where=counts > 0)
    return torch.tensor(weights, dtype=torch.float32)


def targets(images: Manifest) -> list[Target]:
    """What a loss is given of each image: its class index, with its loss weight (a float32 scalar) where images have one."""
    if "loss_weight" not in images.table.columns:
        return images.labels()
    weights = torch.tensor(images.table["loss_weight"].to_numpy(), dtype=torch.float32)
    return list(zip(images.labels(), weights, strict=True))


class WeightedCrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy of (labels int [B], loss weights float [B]): an image of weight 2 counts like two images.

    As torch's mean over class weights, it divides by the batch's sum of weights.
    """

    def forward(self, logits: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
        labels, weights = target
        losses = nn.functional.cross_entropy(
            logits, labels, self.weight, label_smoothing=self.label_smoothing, reduction="none"
        )
        norms = weights if self.weight is None else weights * self.weight[labels]
        return (weights * losses).sum() / norms.sum()


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


def _pictures(images: Manifest, module: ImageClassifier, image_size: int, cache: Path | None) -> Pictures:
    return Pictures(load_pixels(images, image_size, cache), images.labels(), _transform(module, image_size))


def _transform(
    module: ImageClassifier, image_size: int, augmentation: Mapping[str, Any] | None = None
) -> Any:
    return make_transform(image_size, getattr(module.network, "pretrained_cfg", {}), augmentation)
