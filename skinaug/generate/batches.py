"""How many pictures fit into memory at once."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch

from skinaug.generate.settings import AUTO

FULL_MAPS = (
    4  # widest maps at full resolution that the decoder holds at once: input, output, normalized, workspace
)
SHARE = 0.5  # of the free memory; the rest is for the denoiser, fragments and other programs
MOST = {"cuda": 256, "cpu": 32}  # beyond it, no device draws faster


def images_at_once(batch_size: int | str, widths: Sequence[int], size: int, device: torch.device) -> int:
    """`batch_size`, or for "auto" as many pictures of `size` pixels as half of the free memory holds; once the weights lie
    on the device, and at most 256 on CUDA and 32 elsewhere.

    The estimate counts the autoencoder's decoder, which needs more than the denoiser: 4 maps of float32 of the width of
    its second block at the picture's full size, 1 GiB for 512 px with the autoencoder of SD 1. widths: of the blocks, from the
    full size on.
    """
    if batch_size != AUTO:
        return int(batch_size)
    image_bytes = FULL_MAPS * 4 * widths[min(1, len(widths) - 1)] * size**2
    return max(1, min(int(SHARE * _free_bytes(device)) // image_bytes, MOST.get(device.type, MOST["cpu"])))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
