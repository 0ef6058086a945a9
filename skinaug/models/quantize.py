"""Frozen weights in 8 or 4 bits: LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339) and QLoRA's NF4 (Dettmers et al. 2023, arXiv
2305.14314), by bitsandbytes, on CPUs as on CUDA.

Importing this costs milliseconds: settings are checked before torch is there.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from skinaug.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Before anything imports bitsandbytes, as peft does: it tells of kernels that it does without, and of a cast that LLM.int8() is.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="MatMul8bitLt: inputs will be cast")

BITS = (8, 4)
LARGE = (
    10**9
)  # parameters from which a text encoder is quantised too: T5, Gemma, Qwen and Mistral, and not CLIP


def check_quantize(bits: Any, name: str) -> None:
    """Refuse a number of bits that there is no way to, or that a library is missing for.

    bits: 8, 4, or None for weights as they are. name: of the setting.

    Raises:
        InputError: either.
    """
    if bits is None:
        return
    if isinstance(bits, bool) or bits not in BITS:
        raise InputError(
            f"{name}={bits!r}: frozen weights have 8 or 4 bits, or null for as many as they have."
        )
    if find_spec("bitsandbytes") is None:
        raise InputError(
            f"{name}={bits} needs bitsandbytes, which is not installed: pip install 'skinaug[quantized]'."
        )


def quantize_pipeline(pipeline: Any, denoiser: nn.Module, bits: int, dtype: torch.dtype) -> None:
    """Quantise the denoiser of a pipeline on the CPU, and its text encoders of LARGE parameters or more, in place.

    The autoencoder and CLIP's encoders stay as they are: they are a few per cent of the weights, and colours are theirs.

    dtype: that the denoiser's products are computed in; text is always read in float32.
    """
    import torch
    from torch import nn

    quantize(denoiser, bits, dtype)
    for name, network in pipeline.components.items():
        if (
            name.startswith("text_encoder")
            and isinstance(network, nn.Module)
            and parameters(network) >= LARGE
        ):
            quantize(network, bits, torch.float32)


def quantize(network: nn.Module, bits: int, dtype: torch.dtype) -> None:
    """Put layers of 8 or 4 bits in the place of a network's linear layers, on the CPU; they move to other devices as they are.

    Layers that the architecture itself keeps in float32 (`_keep_in_fp32_modules`) stay. Blocks of 64 weights of 4 bits share a
    scale of 8 bits, rows of 8 bits one of float32.

    dtype: that products with weights of 4 bits are computed in; those of 8 bits are whole numbers, but for outliers in float16.
    """
    for name, layer in replaceable(network):
        parent, _, child = name.rpartition(".")
        owner = network.get_submodule(parent)
        owner.register_module(child, _quantized(layer, bits, dtype))
    setattr(network, f"is_loaded_in_{bits}bit", True)  # by which peft knows how to put a LoRA on top


def replaceable(network: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The layers that `quantize` puts others in the place of, by name.

    A layer that shares its weights, as a language model's head does with its embedding, stays: the weights would be there twice.
    """
    from torch import nn

    kept = set(getattr(network, "_keep_in_fp32_modules", None) or ())
    places = Counter(id(weight) for _, weight in network.named_parameters(remove_duplicate=False))
    return [
        (name, layer)
        for name, layer in network.named_modules()
        if type(layer) is nn.Linear and places[id(layer.weight)] == 1 and not kept & set(name.split("."))
    ]


def parameters(network: nn.Module) -> int:
    """How many numbers a network has."""
    return sum(parameter.numel() for parameter in network.parameters())


def _quantized(layer: nn.Linear, bits: int, dtype: torch.dtype) -> nn.Module:
    """A layer of 8 or 4 bits with a linear layer's weights."""
    import bitsandbytes
    import torch

    from skinaug.models.frozen_8bit import FrozenLinear8bit

    sizes = (layer.in_features, layer.out_features, layer.bias is not None)
    made: Any
    with torch.device("meta"):
        if bits == 8:
            made = FrozenLinear8bit(*sizes, has_fp16_weights=False, threshold=6.0)
        else:
            made = bitsandbytes.nn.Linear4bit(*sizes, quant_type="nf4", compute_dtype=dtype)
    kind = type(made.weight)
    options: dict[str, Any] = (
        {"has_fp16_weights": False} if bits == 8 else {"quant_type": "nf4", "module": made}
    )
    made.weight = kind(layer.weight.detach(), requires_grad=False, **options)
    made.bias = None if layer.bias is None else torch.nn.Parameter(layer.bias.detach(), requires_grad=False)
    # Some CPUs would lay the weights out anew, in place, at the first call that needs no gradient: a training that draws samples
    # could not go on.
    made.support_avx512bf16_for_cpu = False
    return made.to("cpu").train(layer.training)  # which quantises
