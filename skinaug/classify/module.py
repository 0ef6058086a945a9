"""A timm network as a classifier in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import lightning as L
import torch
from timm.layers import convert_sync_batchnorm
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from skinaug.metrics.classification import classification_metrics

Batch = tuple[Tensor, Tensor]  # float [B, 3, H, W] or features [B, D]; int [B], in training float [B, C]


class Predictor(L.LightningModule):
    """Probabilities of a network that gives class logits.

    Args:
        network: float [B, 3, H, W], or features [B, D] where it is a linear head -> logits [B, C].
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        pictures = images.ndim == 4  # a linear head is given vectors
        return self.network(images.contiguous(memory_format=torch.channels_last) if pictures else images)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch[0]).float().softmax(1)


class ImageClassifier(Predictor):
    """Training, validation and prediction of a network that gives class logits.

    Args:
        network: float [B, 3, H, W] -> logits [B, C].
        classes: C names.
        loss: (logits [B, C], targets [B, C], mean over devices) -> scalar, as `loss.ClassificationLoss`.
        optimizer: made from the parameters; its learning rate is the peak of the schedule.
        steps: optimizer steps of the whole training.
        warmup_steps: of these, with a rising learning rate.
        layer_decay: each layer's learning rate, as a multiple of the next one's towards the output; None: one rate for all.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        loss: Callable[..., Tensor],
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        steps: int,
        warmup_steps: int,
        layer_decay: float | None = None,
    ) -> None:
        super().__init__(network)
        self.layer_decay = layer_decay
        self.classes, self.loss, self.optimizer = tuple(classes), loss, optimizer
        self.steps, self.warmup_steps = steps, warmup_steps
        self.judged: list[Batch] = []  # probabilities and labels of the running validation

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.trainer.world_size > 1 and self.device.type == "cuda":
            # PyTorch's own conversion would drop the activations that timm keeps in these layers.
            self.network = convert_sync_batchnorm(self.network)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        loss = self.loss(self(images), targets, partial(self.trainer.strategy.reduce, reduce_op="mean"))
        # At other steps no logger would be told of it, and a third of a probe's step would go into that.
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:
            self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        self.judged.append((self(images).float().softmax(1), labels))

    def on_validation_epoch_end(self) -> None:
        probabilities, labels = (self.gather(torch.cat(parts)) for parts in zip(*self.judged, strict=True))
        self.judged.clear()
        scores = classification_metrics(probabilities, labels, self.classes)
        self.log("val/loss", nn.functional.nll_loss(probabilities.clamp_min(1e-12).log(), labels))
        for name in ("top1", "balanced_accuracy"):
            self.log(f"val/{name}", scores.pop(name), prog_bar=True)
        self.log_dict({f"val/{name}": value for name, value in scores.items() if name != "per_class"})

    def gather(self, own: Tensor) -> Tensor:
        """The rows that all devices have judged, in order: their shares may differ by one."""
        if self.trainer.world_size == 1:
            return own
        shares: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(shares, own.cpu())
        return torch.cat(shares).to(own.device)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.optimizer, self.network, self.layer_decay)
        factor = partial(warmup_cosine, steps=self.steps, warmup_steps=self.warmup_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }


def make_optimizer(
    optimizer: Callable[..., Optimizer], network: nn.Module, layer_decay: float | None
) -> Optimizer:
    """An optimizer of a network's parameters, with `layer_decay` of a rate a layer: the k-th from the output learns at
    layer_decay^k times the peak rate, and biases and norms do not decay. Clark et al. 2020 (arXiv 2003.10555), appendix A.

    Args:
        optimizer: a partial with the peak rate `lr` and, if any, `weight_decay`.
        layer_decay: in (0, 1]; None: all parameters alike.
    """
    if layer_decay is None:
        return optimizer(network.parameters())
    decay = getattr(optimizer, "keywords", {}).get("weight_decay", 0.0)
    kept = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    made = optimizer(param_groups_layer_decay(network, decay, kept, layer_decay=layer_decay))
    for group in made.param_groups:
        group["lr"] *= group["lr_scale"]
    return made


def warmup_cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate at a step: linear from 1 / (warmup + 1), then half a cosine down to 0 at `steps`."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)))
