"""Convolutions that learn faster on a CPU and compute the same up to rounding.

Batch normalisation with fixed statistics is a scale and a shift a channel. Folded into the convolution before it, it costs a
product over the weights in place of several passes over the pictures; scale, shift and weights still learn, each by its own
gradient. And oneDNN is slow at the gradient of a depthwise convolution's weights for kernels larger than 3 x 3 and for maps of
two pixels: it is itself a depthwise convolution, of the maps with the output's gradient, and that is several times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame, pad_same
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

FAST_KERNEL = 3  # taps a side of the depthwise kernels whose weights' gradient oneDNN computes fast
# Pixels a side of outputs up to which the other way is faster: for those kernels, and for larger ones.
TINY_MAP, SMALL_MAP = 2, 14


def fold_norms(network: nn.Module, image_size: int) -> int:
    """Fold batch normalisation that keeps its statistics into the convolutions before it, in place.

    Parameters, buffers and their names stay as they are; so does what the network computes, which is checked on two pictures.
    On other devices than CPUs, and where a normalisation is put into training mode later, both layers work as before.

    Args:
        network: its normalisations with fixed statistics are in evaluation mode, as `freeze_statistics` leaves them.
        image_size: pixels a side.

    Returns:
        How many were folded.
    """
    pictures = torch.rand(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    modes = {module: module.training for module in network.modules()}
    fixed = {module for module, training in modes.items() if _is_norm(module) and not training}
    network.eval()
    with torch.no_grad():
        logits, pairs = _followed(network, pictures)
        pairs = [pair for pair in pairs if pair[1] in fixed]
        kinds = [(type(convolution), type(norm)) for convolution, norm in pairs]
        for convolution, norm in pairs:
            convolution.__class__, convolution.folded = FOLDED[type(convolution)], (norm,)
            norm.__class__ = FOLDED[type(norm)]
        if not torch.allclose(network(pictures), logits, rtol=1e-3, atol=1e-3):
            for (convolution, norm), (kind, norm_kind) in zip(pairs, kinds, strict=True):
                convolution.__class__, norm.__class__ = kind, norm_kind
            pairs = []
    for module, training in modes.items():
        module.training = training
    return len(pairs)


def _is_norm(module: nn.Module) -> bool:
    plain = type(module) in (nn.BatchNorm2d, BatchNormAct2d) and module.affine and module.track_running_stats
    return plain and isinstance(getattr(module, "drop", None), nn.Identity | None)


def _is_convolution(module: nn.Module) -> bool:
    plain = type(module) in (nn.Conv2d, Conv2dSame) and module.padding_mode == "zeros"
    return plain and not isinstance(module.padding, str)


def _followed(network: nn.Module, pictures: Tensor) -> tuple[Tensor, list[tuple[nn.Module, nn.Module]]]:
    """What a network gives, and its convolutions of which a normalisation is given the very output, each called once."""
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensors stay, so that no other takes an address
    calls: list[nn.Module] = []
    pairs: list[tuple[nn.Module, nn.Module]] = []

    def convolved(module: nn.Module, _: Any, output: Tensor) -> None:
        calls.append(module)
        made[id(output)] = module, output

    def normalises(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append(module)
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], module))

    hooks = [m.register_forward_hook(convolved) for m in network.modules() if _is_convolution(m)]
    hooks += [m.register_forward_pre_hook(normalises) for m in network.modules() if _is_norm(m)]
    try:
        logits = network(pictures)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, [pair for pair in pairs if all(calls.count(module) == 1 for module in pair)]


@contextmanager
def settled(network: nn.Module) -> Iterator[None]:
    """While the weights of a folded network stay as they are, each fold is made once and not for every batch."""
    convolutions: list[Any] = [module for module in network.modules() if isinstance(module, _Convolution)]
    try:
        with torch.no_grad():
            for convolution in convolutions:
                convolution.fold = convolution.folding()
        yield
    finally:
        for convolution in convolutions:
            convolution.fold = None


class _Convolution:
    """Of a convolution: it gives what the normalisation after it would give."""

    folded: tuple[nn.BatchNorm2d]  # in a tuple, so that it is no part of this layer's state
    fold: tuple[Tensor, Tensor] | None = None  # weight and shift, while they are settled

    def folding(self: Any) -> tuple[Tensor, Tensor]:
        """Weight and shift of both layers together."""
        (norm,) = self.folded
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        return self.weight * scale.view(-1, 1, 1, 1), shift

    def forward(self: Any, maps: Tensor) -> Tensor:
        if self.folded[0].training or not maps.is_cpu:
            return super().forward(maps)  # type: ignore[misc]
        weight, shift = self.fold or self.folding()
        padding = self.padding
        if isinstance(self, Conv2dSame):
            maps, padding = pad_same(maps, self.kernel_size, self.stride, self.dilation), (0, 0)
        square = all(len({*pair}) == 1 for pair in (self.kernel_size, self.stride, padding, maps.shape[-2:]))
        if self.groups == self.in_channels == self.out_channels and square and self.dilation == (1, 1):
            return DepthwiseConvolution.apply(maps, weight, shift, self.stride[0], padding[0])
        return F.conv2d(maps, weight, shift, self.stride, padding, self.dilation, self.groups)


class _Norm:
    """Of a normalisation: what is left of it where the convolution before it has done its work."""

    def forward(self: Any, maps: Tensor) -> Tensor:
        if self.training or not maps.is_cpu:
            return super().forward(maps)  # type: ignore[misc]
        if not isinstance(self, BatchNormAct2d):
            return maps
        return Clamp.apply(maps) if type(self.act) is nn.ReLU6 else self.act(maps)


FOLDED: dict[type, type] = {
    kind: type(f"Folded{kind.__name__}", (part, kind), {})
    for part, kinds in ((_Convolution, (nn.Conv2d, Conv2dSame)), (_Norm, (nn.BatchNorm2d, BatchNormAct2d)))
    for kind in kinds
}


class Clamp(torch.autograd.Function):
    """ReLU6 in place. Its gradient follows from its result, which the next layer keeps anyway; PyTorch's own keeps a copy of what
    it was given too."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.mark_dirty(maps.clamp_(0.0, 6.0))
        ctx.save_for_backward(maps)
        return maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.ops.aten.hardtanh_backward(gradient, *ctx.saved_tensors, 0.0, 6.0)


class DepthwiseConvolution(torch.autograd.Function):
    """A square depthwise convolution. maps [B, C, H, H], weight [C, 1, K, K], bias [C]; stride and padding in pixels."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(maps, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            of_maps = _gradients(gradient, maps, weight, ctx.stride, ctx.padding, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(gradient, maps, weight, ctx.stride, ctx.padding)
        return of_maps, of_weight, gradient.sum((0, 2, 3)), None, None


def weight_gradient(gradient: Tensor, maps: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient [C, 1, K, K] of a depthwise convolution's weights, from that of its output, [B, C, O, O]."""
    kernel, size = weight.shape[-1], gradient.shape[-1]
    if size > (SMALL_MAP if kernel > FAST_KERNEL else TINY_MAP):
        return _gradients(gradient, maps, weight, stride, padding, [False, True, False])[1]
    planes = len(maps) * len(weight)  # each picture's channels are convolved with the output's gradient
    outside = max(
        padding - stride * (size - 1), 0
    )  # taps of the kernel's edge that reach no pixel learn nothing
    given = maps.reshape(1, planes, *maps.shape[2:])
    taps = gradient.reshape(planes, 1, size, size)
    told = F.conv2d(given, taps, padding=padding - outside, dilation=stride, groups=planes)
    told = told[..., : kernel - outside, : kernel - outside]
    reached = slice(outside, outside + told.shape[-1])
    whole = torch.zeros_like(weight)
    whole[..., reached, reached] = told.reshape(len(maps), len(weight), 1, *told.shape[2:]).sum(0)
    return whole


def _gradients(
    gradient: Tensor, maps: Tensor, weight: Tensor, stride: int, padding: int, wanted: list[bool]
) -> tuple[Tensor, ...]:
    """PyTorch's own gradients of maps, weight and bias: those that are wanted."""
    return torch.ops.aten.convolution_backward(
        gradient, maps, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight), wanted
    )
