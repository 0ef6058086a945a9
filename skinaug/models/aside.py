"""Parts of a pipeline put aside or exchanged for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skinaug.models.text_length import text_encoders


@contextmanager
def without_encoders(pipeline: Any) -> Iterator[None]:
    """A pipeline that has no text encoders inside the block, and is where its other networks are: it draws from text states, and once
    texts are read, their encoders need not be where the denoiser is."""
    held = {name: network for name, network, _ in text_encoders(pipeline)}
    pipeline.register_modules(**dict.fromkeys(held))
    try:
        yield
    finally:
        pipeline.register_modules(**held)


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """The owner's method exchanged for a function, inside the block only."""
    before = vars(owner).get(name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)
