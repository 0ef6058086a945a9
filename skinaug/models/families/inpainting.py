"""Inpainting models: UNets of Stable Diffusion that also read a mask and the picture around it, nine channels (Rombach et al. 2022).

They draw into photographs, and nothing else: from a text alone they would lack what they read, and nothing is taught to them.
"""

from __future__ import annotations

from skinaug.models.families.sdxl import StableDiffusionXL
from skinaug.models.families.stable_diffusion import StableDiffusion


class StableDiffusionInpainting(StableDiffusion):
    name = "SD 1, 2 inpainting"
    pipeline = "StableDiffusionInpaintPipeline"
    methods = ()
    schedulers = ()
    image_schedulers = ()


class StableDiffusionXLInpainting(StableDiffusionXL):
    name = "SDXL inpainting"
    pipeline = "StableDiffusionXLInpaintPipeline"
    methods = ()
    schedulers = ()
    image_schedulers = ()
