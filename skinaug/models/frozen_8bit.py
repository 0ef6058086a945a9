"""A frozen layer of 8 bits that keeps nothing for its gradient but its weights."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn import Linear8bitLt
from torch import Tensor


class FrozenLinear8bit(Linear8bitLt):
    """bitsandbytes' layer, with the same outputs and gradients.

    Its own gradient holds on to the layer's inputs where gradient checkpointing does not see them, so that nothing was computed again and
    8 bits took more memory than 32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in_features], to [..., out_features]."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Product.apply(x, self)
        return super().forward(x)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenLinear8bit) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return Linear8bitLt.forward(layer, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Through the weights as they are: whole numbers from -127 to 127, times a scale a row."""
        numbers, scales = ctx.layer.state.CB, ctx.layer.state.SCB
        weights = numbers.to(ctx.dtype, copy=True).mul_(scales.unsqueeze(1).mul(1.0 / 127.0))
        return gradient.to(ctx.dtype) @ weights, None
