"""What the hardware can do at best, and what a network asks of it."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


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
