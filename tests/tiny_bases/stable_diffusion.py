"""Stable Diffusion: 2, XL and 3. Most of what is tested of them has tests of its own."""

from __future__ import annotations

from functools import partial

from diffusion_components import SIZE, tiny
from tiny_bases.tiny import Tiny

PLAIN = {"guidance_scale": 2.5}
SD2 = Tiny(partial(tiny, "sd2"), SIZE, 2.5, PLAIN, scheduler="ddim")
SDXL = Tiny(partial(tiny, "sdxl"), SIZE, 2.5, PLAIN, scheduler="ddim")
SD3 = Tiny(partial(tiny, "sd3"), SIZE, 2.5, PLAIN)
