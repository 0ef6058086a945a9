"""What computes in its weights' own precision, whatever autocast the caller is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from skinaug.models.aside import replaced


def overflows(vae: Any, device: str) -> bool:
    """Whether autocast on that kind of device is to float16 and the autoencoder overflows in that: it says so (`force_upcast`), as
    SDXL's does, or does not say."""
    half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return half and bool(vae.config.get("force_upcast", True))


@contextmanager
def exact_autoencoder(vae: Any, device: str) -> Iterator[None]:
    """An autoencoder that works outside of autocast inside the block, where it would overflow."""
    with ExitStack() as stack:
        if overflows(vae, device):
            for name in ("encode", "decode"):
                stack.enter_context(replaced(vae, name, _without_autocast(getattr(vae, name), device)))
        yield


def _without_autocast(call: Callable[..., Any], device: str) -> Callable[..., Any]:
    def exact(*args: Any, **others: Any) -> Any:
        with torch.autocast(device, enabled=False):
            return call(*args, **others)

    return exact
