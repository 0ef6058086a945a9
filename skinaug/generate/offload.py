"""Networks that wait in the machine's memory until a device needs them: diffusers' three ways, by name."""

from __future__ import annotations

from typing import Any

import torch

from skinaug.generate.settings import OFFLOADS


def offload_pipeline(pipeline: Any, kind: str, device: torch.device) -> None:
    """Let a pipeline's networks go to the device only while they compute; they lie on the CPU now, and must not be moved by others.

    kind: model, a network at a time; group, layers of which the next are fetched ahead on CUDA; sequential, a layer at a time.
    """
    if kind not in OFFLOADS:
        raise ValueError(f"{kind!r} is none of {', '.join(OFFLOADS)}.")
    if kind == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif kind == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        # By leaves, not by blocks: the autoencoder's parts are called by themselves, past the hooks of its blocks.
        pipeline.enable_group_offload(device, offload_type="leaf_level", use_stream=device.type == "cuda")
