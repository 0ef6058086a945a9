"""A row for each base."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_bases import flux, flux2_klein, pixart, qwenimage, sana, stable_diffusion, zimage
from tiny_bases.tiny import Tiny

TINY: dict[str, Tiny] = {
    "flux1_dev": flux.DEV,
    "flux1_schnell": flux.SCHNELL,
    "flux2_klein": flux2_klein.DISTILLED,
    "flux2_klein_base": flux2_klein.BASE,
    "zimage": zimage.ZIMAGE,
    "qwenimage": qwenimage.QWENIMAGE,
    "sana": sana.SANA,
    "pixart_sigma": pixart.SIGMA,
    "pixart_alpha": pixart.ALPHA,
}
STABLE_DIFFUSION: dict[str, Tiny] = {
    "sd2": stable_diffusion.SD2,
    "sdxl": stable_diffusion.SDXL,
    "sd3": stable_diffusion.SD3,
}
ROWS = TINY | STABLE_DIFFUSION


def save_tiny_base(folder: Path, name: str) -> Path:
    """Save the pipeline of a row and return the folder."""
    torch.manual_seed(0)
    ROWS[name].make().save_pretrained(folder)
    return folder
