"""Averaged weights over the steps of a training of which parts are frozen."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging


class AveragedWeights(EMAWeightAveraging):
    """Lightning's exponential moving average of parameters, resumed from checkpoints that hold learning weights alone.

    Buffers are left out: whole numbers among them, such as positions, would be rounded down.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay, use_buffers=False)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        whole = pl_module.state_dict()
        for state in {"state_dict", "current_model_state"} & checkpoint.keys():
            checkpoint[state] = {**whole, **checkpoint[state]}
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
