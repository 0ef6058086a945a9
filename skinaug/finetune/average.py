"""Averaged weights over the steps of a training of which parts are frozen."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights(WeightAveraging):
    """Lightning's average of parameters over steps, exponential, resumed from checkpoints that hold learning weights alone.

    Buffers are left out: whole numbers among them, such as positions, would be rounded down. What does not learn stays as it is:
    torch moves the average by a share of its distance to the weight.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        whole = pl_module.state_dict()
        for state in {"state_dict", "current_model_state"} & checkpoint.keys():
            checkpoint[state] = {**whole, **checkpoint[state]}
        if (
            checkpoint["global_step"] == trainer.max_steps
        ):  # nothing is left to train, after which Lightning would do this
            checkpoint["current_model_state"] = checkpoint["state_dict"]
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
