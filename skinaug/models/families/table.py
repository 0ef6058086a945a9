"""The families of base models, a line each, and which of them a pipeline or a folder is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skinaug.errors import InputError
from skinaug.models.families.family import Family
from skinaug.models.families.flux import Flux
from skinaug.models.families.flux2_klein import Flux2Klein
from skinaug.models.families.qwenimage import QwenImage
from skinaug.models.families.sd3 import StableDiffusion3
from skinaug.models.families.sdxl import StableDiffusionXL
from skinaug.models.families.stable_diffusion import StableDiffusion
from skinaug.models.families.zimage import ZImage

FAMILIES: dict[str, Family] = {
    family.pipeline: family
    for family in (
        StableDiffusion(),
        StableDiffusionXL(),
        StableDiffusion3(),
        Flux(),
        Flux2Klein(),
        ZImage(),
        QwenImage(),
    )
}


def family_of(pipeline: Any) -> Family:
    """The family of a pipeline that draws from text."""
    return family_named(type(pipeline).__name__)


def family_in(index: Mapping[str, Any]) -> Family:
    """The family of a pipeline's folder, by its model_index.json."""
    return family_named(str(index.get("_class_name")))


def family_named(pipeline: str) -> Family:
    """The family of a pipeline class.

    Raises:
        InputError: there is none.
    """
    if pipeline not in FAMILIES:
        raise InputError(f"it is a {pipeline}. Those that can be used: {', '.join(FAMILIES)}.")
    return FAMILIES[pipeline]


def denoiser(pipeline: Any) -> Any:
    """The network that denoises, which is called once a step or more often."""
    return pipeline.components[family_of(pipeline).denoiser]
