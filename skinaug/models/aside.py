"""Text encoders put aside: once texts are read, they need not be where the denoiser is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skinaug.models.text_length import text_encoders


@contextmanager
def without_encoders(pipeline: Any) -> Iterator[None]:
    """A pipeline that has no text encoders inside the block, and is where its other networks are: it draws from text states."""
    held = {name: network for name, network, _ in text_encoders(pipeline)}
    pipeline.register_modules(**dict.fromkeys(held))
    try:
        yield
    finally:
        pipeline.register_modules(**held)
