"""A network's content as a short hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

KEY_LENGTH = 16  # hexadecimal digits


def module_digest(module: nn.Module) -> str:
    """A network's content in 16 hexadecimal digits: its class, configuration, parameters and buffers.

    Names in the configuration that start with "_" do not count: they tell where it was loaded from, and by what.
    """
    state = module.state_dict()
    with ThreadPoolExecutor() as pool:
        contents = pool.map(_sha256, state.values())
        tensors = [
            [name, str(tensor.dtype), list(tensor.shape), content]
            for (name, tensor), content in zip(state.items(), contents, strict=True)
        ]
    config = getattr(module, "config", {})
    public = _public(config.to_dict() if hasattr(config, "to_dict") else config)
    text = json.dumps([type(module).__name__, public, tensors], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def _public(config: Any) -> Any:
    """Without names that start with "_", at any depth."""
    if not isinstance(config, Mapping):
        return config
    return {str(name): _public(value) for name, value in config.items() if not str(name).startswith("_")}


def _sha256(tensor: Tensor) -> str:
    """Of a tensor's bytes, which are not copied where they are contiguous and on the CPU."""
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(data.numpy()).hexdigest()
