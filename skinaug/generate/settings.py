"""What a pool may ask for. Imports no torch, so that bad input is refused before any model is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinaug.errors import InputError
from skinaug.generate.inpaint import Inpaint, check_rule
from skinaug.models.base_folder import INDEX, read_configurations, read_index
from skinaug.models.families.family import EMBEDDED, FLOW_SCHEDULERS, NOISE_SCHEDULERS, UNGUIDED, Family
from skinaug.models.families.table import family_in
from skinaug.models.quantize import check_quantize

MODES = ("text", "image", "inpaint")
OFFLOADS = ("model", "group", "sequential")  # from the least saving and the fastest on
FORMATS = ("png", "webp", "jpeg")
SCHEDULERS = tuple(dict.fromkeys(NOISE_SCHEDULERS + FLOW_SCHEDULERS))
AUTO = "auto"


@dataclass(frozen=True)
class Settings:
    """What, with weights, prompt, seed and parent, decides a picture.

    guidance_scale: 1 is no guidance. image_size: pixels a side. guidance_interval: shares of the training noise levels, from
    0 (clean) to 1 (noise), inside which guidance is applied. mode: text, image or inpaint. strength: how far a picture departs
    from its parent, (0, 1]; None in text mode. inpaint: where it does, in mode inpaint alone.
    """

    guidance_scale: float
    num_inference_steps: int
    scheduler: str
    image_size: int
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    mode: str = "text"
    strength: float | None = None
    inpaint: Inpaint | None = None

    @property
    def from_parents(self) -> bool:
        """Whether pictures are made from real training images."""
        return self.mode != "text"

    def told(self) -> dict[str, Any]:
        """What decides a picture, as a flat table has it."""
        values = {name: value for name, value in vars(self).items() if name != "inpaint"}
        return values | (self.inpaint.told() if self.inpaint else {})


def check_settings(
    per_class: int,
    guidance_scale: float,
    num_inference_steps: int,
    scheduler: str,
    image_size: int,
    batch_size: int | str,
    mode: str = "text",
    strength: float = 0.5,
    guidance_interval: Sequence[float] = (0.0, 1.0),
    format: str = "png",
    max_redraws: int = 3,
    quantize: int | None = None,
    offload: str | None = None,
    inpaint: Inpaint | None = None,
    **others: object,
) -> Settings:
    """The settings, where a stage's values can work. Needs no model, so it can be asked before anything is trained.

    Raises InputError with every value that cannot.
    """
    counts = {"per_class": per_class, "num_inference_steps": num_inference_steps, "image_size": image_size}
    problems = [
        f"generate.{name} must be a whole number of 1 or more, got {value!r}"
        for name, value in counts.items()
        if not _whole(value, 1)
    ]
    if batch_size != AUTO and not _whole(batch_size, 1):
        problems.append(
            f"generate.batch_size must be auto or a whole number of 1 or more, got {batch_size!r}"
        )
    if not _whole(max_redraws, 0):
        problems.append(f"generate.max_redraws must be a whole number of 0 or more, got {max_redraws!r}")
    if not (_number(guidance_scale) and guidance_scale >= 1):
        problems.append(f"generate.guidance_scale must be 1 (no guidance) or more, got {guidance_scale!r}")
    problems += [
        f"generate.{name} must be one of {', '.join(str(word or 'null') for word in words)}, got {value!r}"
        for name, value, words in (
            ("scheduler", scheduler, SCHEDULERS),
            ("mode", mode, MODES),
            ("format", format, FORMATS),
            ("offload", offload, (None, *OFFLOADS)),
        )
        if value not in words
    ]
    if not (_number(strength) and 0 < strength <= 1):
        problems.append(
            f"generate.strength must be above 0 (the parent as it is) and at most 1, got {strength!r}"
        )
    problems += _interval_problems(guidance_interval)
    where = (inpaint or Inpaint()) if mode == "inpaint" else None
    if where and not problems:
        problems = check_rule(where, strength, format)
    if problems:
        raise InputError("\n".join(problems))
    check_quantize(quantize, "generate.quantize")
    if quantize and offload not in (None, OFFLOADS[0]):
        raise InputError(
            f"generate.offload={offload} moves layers apart from their scales: with generate.quantize={quantize}, choose model or null."
        )
    low, high = guidance_interval
    return Settings(
        float(guidance_scale),
        num_inference_steps,
        scheduler,
        image_size,
        (float(low), float(high)),
        mode,
        None if mode == "text" else float(strength),
        where,
    )


def check_fit(settings: Settings, family: Family, factor: int, guidance: str) -> None:
    """Raise InputError where a base model of this family cannot make such pictures.

    factor: what its sizes must be multiples of, in pixels. guidance: how it is guided (`Family.guidance`).
    """
    fitting = family.samplers[settings.mode]
    if not fitting:
        does = {
            "text": "draws from a text alone",
            "image": "starts from a picture",
            "inpaint": "draws into a picture",
        }
        modes = ", ".join(mode for mode in MODES if family.samplers[mode])
        raise InputError(
            f"generate.mode={settings.mode}: no pipeline of diffusers {does[settings.mode]} with {family.name}. Modes that it has: {modes}. "
            "Choose one of them, or another base."
        )
    if settings.scheduler not in fitting:
        learned = "learned a flow" if family.flow else "was trained to remove noise"
        raise InputError(
            f"generate.scheduler '{settings.scheduler}' does not suit {family.name}, which {learned}, in mode '{settings.mode}'. "
            f"Those that do: {', '.join(fitting)}."
        )
    if settings.num_inference_steps < family.least_steps:
        raise InputError(
            f"generate.num_inference_steps={settings.num_inference_steps}: diffusers draws with {family.name} in at least "
            f"{family.least_steps} steps."
        )
    if guidance == UNGUIDED and settings.guidance_scale != 1:
        raise InputError(
            f"generate.guidance_scale={settings.guidance_scale:g}: this base was distilled and is not guided when it draws. Set it to 1."
        )
    if guidance == EMBEDDED and settings.guidance_interval != (0.0, 1.0):
        raise InputError(
            f"generate.guidance_interval={list(settings.guidance_interval)}: this base is told its guidance by a number, at every step "
            "alike. Set [0, 1]."
        )
    if settings.image_size % factor:
        near = max(factor, round(settings.image_size / factor) * factor)
        raise InputError(
            f"generate.image_size {settings.image_size} is no multiple of {factor}, as this base needs. Try {near}."
        )


def check_folder(settings: Settings, folder: Path) -> None:
    """`check_fit` of a pipeline in diffusers' layout from its JSON files alone; a folder without them is not judged."""
    if not (folder / INDEX).is_file():
        return
    index, (vae, denoiser) = read_index(folder), read_configurations(folder)
    if vae and denoiser:
        family = family_in(index)
        check_fit(settings, family, family.drawn_factor(vae, denoiser), family.guidance(index, denoiser))
        check_channels(settings, vae, denoiser)


def check_channels(settings: Settings, vae: Mapping[str, Any], denoiser: Mapping[str, Any]) -> None:
    """Raise InputError where a denoiser reads neither latents alone, nor four channels of them with a mask and the picture around it.

    vae, denoiser: their configurations.
    """
    latents, reads = vae.get("latent_channels", 4), denoiser.get("in_channels", 4)
    if settings.inpaint and reads != latents and (reads, latents) != (9, 4):
        raise InputError(
            f"generate.mode=inpaint: this base's UNet reads {reads} channels, and its autoencoder makes {latents}. It must read as many, or "
            "9 of an autoencoder that makes 4."
        )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _interval_problems(interval: Any) -> list[str]:
    pair = isinstance(interval, Sequence) and len(interval) == 2 and all(map(_number, interval))
    if pair and 0 <= interval[0] < interval[1] <= 1:
        return []
    return [
        f"generate.guidance_interval must be two numbers in order within [0, 1], such as [0.2, 0.8], got {interval!r}"
    ]
