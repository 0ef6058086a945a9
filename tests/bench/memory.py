"""Peak memory of a LoRA's steps on random components: base weights in 32, 8 and 4 bits, with and without gradient checkpointing, and
with the text encoder kept or let go. Of no published base: ratios are what carries over."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from transformers import CLIPTextConfig, CLIPTextModel

from skinaug.models.quantize import parameters, quantize
from tests.bench.process import Run, peak_bytes

WAYS: dict[str, dict[str, Any]] = {
    "as it is, text encoder kept": {"keep": True},
    "as it is": {},
    "gradient checkpointing": {"checkpointing": True},
    "8 bits": {"bits": 8},
    "8 bits, gradient checkpointing": {"bits": 8, "checkpointing": True},
    "4 bits": {"bits": 4},
    "4 bits, gradient checkpointing": {"bits": 4, "checkpointing": True},
}


def train(
    bits: int | None = None,
    checkpointing: bool = False,
    keep: bool = False,
    channels: Sequence[int] = (128, 256, 512),
    layers: int = 8,
    side: int = 32,
    batch: int = 2,
    steps: int = 2,
) -> dict[str, Any]:
    """Bytes that steps of a LoRA take at most beyond what the process held before there was a model, and how long the first took.

    channels: of the denoiser's levels. layers: of the text encoder, 512 wide. side: of the latents. keep: the text encoder stays.
    """
    before = held_bytes()
    torch.manual_seed(0)
    encoder: Any = CLIPTextModel(
        CLIPTextConfig(hidden_size=512, intermediate_size=2048, num_hidden_layers=layers)
    )
    denoiser = UNet2DConditionModel(
        sample_size=side,
        block_out_channels=tuple(channels),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=512,
        transformer_layers_per_block=2,
        norm_num_groups=channels[0] // 2,
    )
    sizes = {"denoiser": parameters(denoiser), "encoder": parameters(encoder)}
    with torch.no_grad():
        states = encoder(torch.randint(0, 1000, (batch, 77)))[0]
    if not keep:
        encoder = None
    denoiser.requires_grad_(False)
    if bits:
        quantize(denoiser, bits, torch.float32)
    if checkpointing:
        denoiser.enable_gradient_checkpointing()
    denoiser.add_adapter(LoraConfig(r=16, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    learning = [weight for weight in denoiser.train().parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4)
    forget_peak()
    losses, start = [], time.perf_counter()
    for _ in range(steps):
        noisy = torch.randn(batch, 4, side, side)
        loss = (denoiser(noisy, torch.randint(0, 1000, (batch,)), states).sample - noisy).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    seconds = time.perf_counter() - start
    return {"bytes": peak_bytes() - before, "losses": losses, "seconds": seconds, "kept": keep, **sizes}


def forget_peak() -> None:
    """From here on a process's peak memory is that of what comes; on Linux, and of the GPU.

    What was freed is given back before: the C library would keep the weights that were quantised for itself.
    """
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    if (file := Path("/proc/self/clear_refs")).exists():
        file.write_text("5")


def held_bytes() -> int:
    """What the process holds at this moment."""
    forget_peak()
    return peak_bytes()


def rows(run: Run, **sizes: Any) -> list[tuple[str, str]]:
    """Lines for the table of figures: each way's peak, and its ratio to that of a plain LoRA without the text encoder."""
    found = {name: run("memory", "train", **way, **sizes) for name, way in WAYS.items()}
    plain = found["as it is"]
    numbers = f"{plain['denoiser'] / 1e6:.0f} M"
    return [
        (
            f"memory of a LoRA on {numbers}, {name}",
            f"{figures['bytes'] / 1e6:.0f} MB, {figures['bytes'] / plain['bytes']:.2f}x; {figures['seconds']:.1f} s",
        )
        for name, figures in found.items()
    ]
