"""Which pictures to make: one row an image, decided before anything is drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from skinaug.errors import InputError
from skinaug.prompts import PromptSet, slots

SCHEDULERS = ("ddim", "dpmsolver++", "unipc", "euler")
SEED_BITS = 53  # whole numbers that every table format and JSON reader keeps exactly


@dataclass(frozen=True)
class Settings:
    """What, with weights, prompt and seed, decides a picture. guidance_scale 1 is no guidance; image_size in pixels."""

    guidance_scale: float
    num_inference_steps: int
    scheduler: str
    image_size: int


def check_settings(
    per_class: int,
    guidance_scale: float,
    num_inference_steps: int,
    scheduler: str,
    image_size: int,
    batch_size: int,
    **others: object,
) -> Settings:
    """The settings, where a stage's values can work. Needs no model, so it can be asked before anything is trained.

    Raises InputError with every value that cannot.
    """
    counts = {
        "per_class": per_class,
        "num_inference_steps": num_inference_steps,
        "image_size": image_size,
        "batch_size": batch_size,
    }
    problems = [
        f"generate.{name} must be 1 or more, got {value}" for name, value in counts.items() if value < 1
    ]
    if not guidance_scale >= 1:
        problems.append(f"generate.guidance_scale must be 1 (no guidance) or more, got {guidance_scale}")
    if scheduler not in SCHEDULERS:
        problems.append(f"generate.scheduler must be one of {', '.join(SCHEDULERS)}, got '{scheduler}'")
    if problems:
        raise InputError("\n".join(problems))
    return Settings(float(guidance_scale), num_inference_steps, scheduler, image_size)


def plan(
    phrases: Mapping[str, str],
    prompts: PromptSet,
    per_class: int,
    seed: int,
    settings: Settings,
    weights: str,
) -> pl.DataFrame:
    """Rows of `per_class` images for each class: image_id, label, prompt, prompt_set, seed, the settings, the weights'
    digest and the attributes that the prompt says (null where it says none).

    phrases: what stands for each class in its prompts. The first n rows of a class do not depend on per_class.
    Raises InputError where the prompts cannot tell the classes apart.
    """
    _check_prompts(prompts, tuple(phrases))
    made_by = {"weights": weights, **asdict(settings)}
    rows = []
    for label, phrase in phrases.items():
        for index, drawn in enumerate(prompts.sample(label, per_class, seed, phrase)):
            picture_seed = image_seed(seed, label, index)
            identity = image_id(prompt=drawn["prompt"], seed=picture_seed, **made_by)
            rows.append({"image_id": identity, "label": label, "seed": picture_seed, **drawn})
    table = pl.from_dicts(rows, schema_overrides={"seed": pl.Int64}, infer_schema_length=None)
    constants = {"prompt_set": prompts.name, **made_by}
    return table.with_columns(pl.lit(value).alias(name) for name, value in constants.items())


def image_seed(run_seed: int, label: str, index: int) -> int:
    """The noise's seed of image `index` of a class: 53 bits of a hash, so that neither batch, order nor count matter.

    Prompt sets share it: the same class and index start from the same noise, which pairs their comparison.
    """
    digest = hashlib.sha256(f"{run_seed}\0{label}\0{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> (64 - SEED_BITS)


def image_id(**decides: str | int | float) -> str:
    """The picture's identity: the hash of all that decides its pixels, by name; 20 hexadecimal digits."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:20]


def _check_prompts(prompts: PromptSet, classes: Sequence[str]) -> None:
    prompts.check_labels(classes)
    blind = [template for template in prompts.templates if "label" not in slots(template)]
    if blind and len(classes) > 1:
        raise InputError(
            f"prompts '{prompts.name}' have templates that ask for every class in the same words: {blind}. "
            "Put {label} into each, outside or inside a [fragment]."
        )
