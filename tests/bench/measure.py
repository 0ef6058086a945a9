"""One measured run in a process of its own, so that its peak memory is its own; and what the hardware can do at best."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def run(module: str, *arguments: object) -> dict[str, Any]:
    """The last line that `python -m tests.bench.<module> <arguments>` prints, as JSON."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(**figures: object) -> None:
    """Print the figures of this process, with its peak memory in GB: of the GPU where there is one."""
    gpu = torch.cuda.is_available()
    peak = (
        torch.cuda.max_memory_allocated()
        if gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    print(json.dumps({**figures, "peak_gb": peak / 1e9}))


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def matmul_flops(dtype: torch.dtype, side: int = 2048, seconds: float = 2.0) -> float:
    """FLOP/s of a large matrix product: the most that a network can hope for."""
    left, right = (torch.randn(side, side, device=device()).to(dtype) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        if device().type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def denoiser_flops(pipeline: Any, side: int, backward: bool) -> float:
    """FLOPs of one denoiser call for one image; with `backward` those of its gradients by its text input too, which reach less
    far down than a LoRA's: its own products are not counted either."""
    unet = pipeline.unet.requires_grad_(False)
    latent = side // pipeline.vae_scale_factor
    noisy = torch.randn(1, unet.config.in_channels, latent, latent, device=unet.device)
    text = torch.randn(1, 77, unet.config.cross_attention_dim, device=unet.device, requires_grad=backward)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        output = unet(noisy, torch.tensor([1], device=unet.device), text).sample
        if backward:
            output.sum().backward()
    return counter.get_total_flops()
