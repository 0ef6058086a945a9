"""Files of named tensors that appear whole or not at all, and are read by mapping them to memory."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def is_whole(file: Path) -> bool:
    """Whether a file is there in full length, which a full disk or a lost power may have cut: its header tells."""
    try:
        with safe_open(file, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def read(file: Path) -> dict[str, Tensor]:
    """A file's tensors, mapped to memory."""
    with safe_open(file, framework="pt") as entry:
        return {name: entry.get_tensor(name) for name in entry.keys()}  # noqa: SIM118


def write(file: Path, tensors: dict[str, Tensor]) -> None:
    """Publish tensors by a rename, replacing what is there; several processes may write the same file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{uuid4().hex}.part")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
