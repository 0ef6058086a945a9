"""Whether a base, once loaded, can be taught with these settings and captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skinaug.errors import InputError
from skinaug.models.families.family import Family
from skinaug.models.families.table import family_of
from skinaug.models.text_length import cut_off, unknown_tokens


def check_method(name: str, family: Family) -> None:
    """Raise InputError where a family does not take a method of fine-tuning (`Family.methods`)."""
    if not family.methods:
        raise InputError(
            f"{family.name} cannot be taught: its network also reads masks, and the photographs have none. Use it as it is "
            "(finetune=none), or teach its base model."
        )
    if name not in family.methods:
        raise InputError(
            f"{family.name} cannot be taught with finetune={name}: what is learned could not be read by diffusers. Choose "
            f"{' or '.join(f'finetune={method}' for method in family.methods)}, or another base."
        )


def check_lengths(pipeline: Any, captions: Sequence[str]) -> None:
    """Raise InputError where a caption has an unknown token, or with what would be cut off where it is too long."""
    if unknown := unknown_tokens(pipeline, captions):
        raise InputError(f"The captions have tokens that the base was not taught: {', '.join(unknown)}.")
    problems = cut_off(pipeline, captions)
    if problems:
        raise InputError(
            f"{len(problems)} captions are longer than a text encoder reads. Shorten finetune.captions.templates, or teach "
            "fewer vectors a class:\n" + "\n".join(problems[:10])
        )


def check_image_size(image_size: int, pipeline: Any) -> None:
    """`check_size` of a base that is loaded."""
    family = family_of(pipeline)
    check_size(image_size, family.factor(pipeline.vae.config, pipeline.components[family.denoiser].config))


def check_size(image_size: int, factor: int) -> None:
    """Refuse pictures that the autoencoder cannot halve as often as it does, or that the denoiser cannot cut into its patches.

    factor: what their side must be a multiple of, in pixels (`Family.factor`).
    """
    if image_size < factor or image_size % factor:
        raise InputError(
            f"finetune.image_size={image_size}: this base takes multiples of {factor} pixels. Set scale.image_size or "
            f"finetune.image_size to {max(1, round(image_size / factor)) * factor}."
        )
