"""What a training keeps for its backward pass, counted without computing anything: on torch's `meta` device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils._pytree import tree_leaves


class Kept:
    """Bytes of tensors that are kept, those that share memory once, and weights not at all."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.weights = {weight.untyped_storage()._cdata for weight in weights}
        self.tensors: dict[int, Tensor] = {}

    def add(self, tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage()._cdata
        if place not in self.weights:
            self.tensors[place] = tensor  # held, so that no other tensor comes to lie there
        return tensor

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self.tensors.values())


class _Fused(torch.autograd.Function):
    """What attention keeps where a fused kernel computes it: no matrix of scores (Dao et al. 2022)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output)
        return output


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention that keeps what a fused kernel does on any device, and computes nothing."""
    before = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda query, key, value, *_, **__: _Fused.apply(
        query, key, value
    )  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = before


def activation_bytes(network: nn.Module, predict: Callable[[], Tensor]) -> tuple[int, int]:
    """Bytes that a prediction keeps for its backward pass: as it is, and with gradient checkpointing, where they are the inputs of all
    blocks and what the largest one keeps.

    network: of diffusers, on the meta device, without gradient checkpointing; it has it afterwards. predict: calls it.
    """
    weights = [*network.parameters(), *network.buffers()]
    blocks: list[int] = []
    whole, outside = Kept(weights), Kept(weights)

    def checkpointed(block: nn.Module, *inputs: Any) -> Any:
        for value in tree_leaves(inputs):
            if isinstance(value, Tensor):
                outside.add(value)
        own = Kept(weights)
        with saved_tensors_hooks(own.add, lambda kept: kept):
            outputs = block(*inputs)
        blocks.append(own.bytes)
        return outputs

    with fused_attention():
        with saved_tensors_hooks(whole.add, lambda kept: kept):
            predict()
        network.enable_gradient_checkpointing(checkpointed)  # type: ignore[operator]
        with saved_tensors_hooks(outside.add, lambda kept: kept):
            predict()
    return whole.bytes, outside.bytes + max(blocks, default=0)
