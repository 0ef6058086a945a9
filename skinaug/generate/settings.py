"""What a pool may ask for. Imports no torch, so that bad input is refused before any model is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinaug.errors import InputError

MODES = ("text", "image")
FORMATS = ("png", "webp", "jpeg")
NOISE_SCHEDULERS = (
    "dpmsolver++",
    "unipc",
    "ddim",
    "euler",
)  # over a schedule of added noise: SD 1, SD 2, SDXL
FLOW_SCHEDULERS = ("flow", "dpmsolver++", "unipc")  # from noise to picture on a straight line: SD 3
SCHEDULERS = tuple(dict.fromkeys(NOISE_SCHEDULERS + FLOW_SCHEDULERS))
AUTO = "auto"


@dataclass(frozen=True)
class Settings:
    """What, with weights, prompt, seed and parent, decides a picture.

    guidance_scale: 1 is no guidance. image_size: pixels a side. guidance_interval: shares of the training noise levels, from
    0 (clean) to 1 (noise), inside which guidance is applied. mode: text or image. strength: how far a picture departs from
    its parent, (0, 1]; None in text mode.
    """

    guidance_scale: float
    num_inference_steps: int
    scheduler: str
    image_size: int
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    mode: str = "text"
    strength: float | None = None


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
        f"generate.{name} must be one of {', '.join(words)}, got {value!r}"
        for name, value, words in (
            ("scheduler", scheduler, SCHEDULERS),
            ("mode", mode, MODES),
            ("format", format, FORMATS),
        )
        if value not in words
    ]
    if not (_number(strength) and 0 < strength <= 1):
        problems.append(
            f"generate.strength must be above 0 (the parent as it is) and at most 1, got {strength!r}"
        )
    problems += _interval_problems(guidance_interval)
    if problems:
        raise InputError("\n".join(problems))
    low, high = guidance_interval
    return Settings(
        float(guidance_scale),
        num_inference_steps,
        scheduler,
        image_size,
        (float(low), float(high)),
        mode,
        float(strength) if mode == "image" else None,
    )


def check_fit(settings: Settings, flow: bool, factor: int) -> None:
    """Raise InputError where a base model of this family cannot make such pictures.

    flow: whether its denoiser was trained by flow matching (SD 3). factor: what its sizes must be multiples of, in pixels.
    """
    fitting: tuple[str, ...] = FLOW_SCHEDULERS if flow else NOISE_SCHEDULERS
    if flow and settings.mode == "image":
        fitting = FLOW_SCHEDULERS[:1]  # diffusers' other samplers cannot start a flow from a picture
    if settings.scheduler not in fitting:
        family = (
            "flow-matching base (SD 3)" if flow else "base that was trained to remove noise (SD 1, 2, SDXL)"
        )
        raise InputError(
            f"generate.scheduler '{settings.scheduler}' does not suit a {family} in mode '{settings.mode}'. "
            f"Those that do: {', '.join(fitting)}."
        )
    if settings.image_size % factor:
        near = max(factor, round(settings.image_size / factor) * factor)
        raise InputError(
            f"generate.image_size {settings.image_size} is no multiple of {factor}, as this base needs. Try {near}."
        )


def check_folder(settings: Settings, folder: Path) -> None:
    """`check_fit` of a pipeline in diffusers' layout from its JSON files alone; what they do not tell is not checked."""
    flow = is_flow(_json(folder / "model_index.json"))
    blocks = _json(folder / "vae" / "config.json").get("block_out_channels")
    if blocks:
        patch = _json(folder / "transformer" / "config.json").get("patch_size", 1) if flow else 1
        check_fit(settings, flow, size_factor(2 ** (len(blocks) - 1), patch))


def is_flow(components: Mapping[str, Any]) -> bool:
    """Whether a pipeline with these components (or such a model_index.json) denoises by flow matching with a transformer."""
    return components.get("transformer") not in (None, [None, None])


def size_factor(vae_factor: int, patch_size: int) -> int:
    """What a picture's side must be a multiple of, in pixels; diffusers asks for 8 whatever the autoencoder."""
    return math.lcm(8, vae_factor * patch_size)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


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
