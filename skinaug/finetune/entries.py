"""Files of named tensors that appear whole or not at all, and are read by mapping them to memory.

A file's metadata tell a checksum of its tensors: a machine that lost power may leave a name, and even the length, without the
content.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def is_whole(file: Path) -> bool:
    """Whether a file is there with all its content."""
    try:
        with safe_open(file, framework="pt") as entry:
            told = (entry.metadata() or {}).get("checksum")
        return told == _checksum(read(file))
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
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(tensors, part, {"checksum": _checksum(tensors)})
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of the tensors' bytes, in the order of their names."""
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].view(torch.uint8).numpy() if tensors[name].ndim else b"", found)
    return f"{found:08x}"
