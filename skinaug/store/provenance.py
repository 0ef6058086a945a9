"""With what an artifact was made: packages, revision, device, threads."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = (
    "skinaug", "torch", "torchvision", "lightning", "diffusers", "transformers", "peft", "timm", "torchmetrics",
    "numpy", "scipy", "scikit-learn", "polars", "pillow", "safetensors",
)  # fmt: skip


def provenance() -> dict[str, Any]:
    """Package versions, git revision, device, threads, host, Python and time: what a rerun must match."""
    return {
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git_revision": _git_revision(),
        "device": _device(),
        "threads": threads(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def threads() -> dict[str, int]:
    """How many threads torch and the BLAS of numpy compute with, where loaded: sums over another number round otherwise."""
    from threadpoolctl import threadpool_info

    torch = sys.modules.get("torch")
    found = {} if torch is None else {"torch": torch.get_num_threads()}
    blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return found | ({"blas": max(blas)} if blas else {})


def _device() -> str:
    """The GPU's name where one is visible to torch, else the processor's."""
    torch = sys.modules.get("torch")  # a stage that never loaded torch did not use a GPU
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"
