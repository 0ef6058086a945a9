"""The memory that a network's step takes beside its weights, counted without computing anything: on torch's `meta` device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Peak(TorchDispatchMode):
    """Counts what operations inside the block make and nobody has let go of yet.

    Attributes:
        now, most: bytes at this moment, and at the worst.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        before = {value.untyped_storage()._cdata for value in arguments}
        outputs = func(*args, **(kwargs or {}))
        for value in tree_iter(outputs):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in before | self.known:
                self._add(value.untyped_storage())
        return outputs

    def _add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


class _Fused(torch.autograd.Function):
    """The memory of attention as fused kernels compute it: no score matrix is kept (Dao et al. 2022)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(torch.empty_like(saved) for saved in ctx.saved_tensors[:3])


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention that needs the memory of a fused kernel on any device, and computes nothing."""
    before = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda query, key, value, *_, **__: _Fused.apply(query, key, value)  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = before


def training_bytes(predict: Callable[[], Tensor]) -> int:
    """Most bytes beside weights and inputs of a prediction, its squared error and the backward pass. predict: on the meta device."""
    with fused_attention(), Peak() as peak:
        predict().float().pow(2).mean().backward()
    return peak.most


def drawing_bytes(predict: Callable[[], Tensor]) -> int:
    """Most bytes beside weights and inputs of a prediction alone. predict: on the meta device."""
    with fused_attention(), torch.no_grad(), Peak() as peak:
        predict()
    return peak.most
