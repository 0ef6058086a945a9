"""Training images' captions, and the states of texts whose encoders are frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from skinaug.finetune.cache import TextStates
from skinaug.manifest import Manifest
from skinaug.models.digest import module_digest
from skinaug.models.families.family import States, frozen_states
from skinaug.models.families.table import family_of
from skinaug.models.text_length import text_encoders
from skinaug.prompts import PromptSet, slots
from skinaug.sources.vocabulary import scale_of, titles_of

Caption = Callable[[int, np.random.Generator], str]


def caption_rows(manifest: Manifest, captions: PromptSet, phrases: Mapping[str, str]) -> Caption:
    """A function of (row, rng) that describes an image; `phrases` stand for classes, others have the prompt set's words.

    Skin types on other scales than Fitzpatrick's are left out where the prompt set has no synonyms for them: templates call
    what they say Fitzpatrick's. How many are left out is printed.
    """
    rows = manifest.table.to_dicts()
    spoken = any("skin_type" in slots(template) for template in captions.templates)
    other = [
        row
        for row in rows
        if spoken
        and scale_of(row.get("skin_type") or "") not in (None, "fitzpatrick", "fitzpatrick_pairs")
        and row["skin_type"] not in captions.synonyms
    ]
    if other:
        titles = titles_of(row["skin_type"] for row in other)
        Console().print(
            f"captions leave out {len(other)} skin types on the scale {titles}: give words for them in finetune.captions.synonyms",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    for row in other:
        row["skin_type"] = None

    def caption(row: int, rng: np.random.Generator) -> str:
        return captions.caption(rows[row], rng, phrase=phrases.get(rows[row]["label"]))

    return caption


def many_captions(caption: Caption, manifest: Manifest, captions: PromptSet) -> list[str]:
    """Distinct captions of up to 1,000 images, each described so often that its longest caption is very likely there."""
    rows = range(0, len(manifest), max(1, len(manifest) // 1000))
    draws = range(4 * len(captions.templates))
    return sorted({caption(row, np.random.default_rng([row, draw])) for row in rows for draw in draws})


def frozen_text(
    pipeline: Any, parameters: Sequence[nn.Parameter], device: torch.device, cache: Path
) -> TextStates | None:
    """Text states that are computed once for good, on a device, while the denoiser is not there; None where a text encoder learns."""
    learning = {id(parameter) for parameter in parameters}
    encoders = [network for _, network, _ in text_encoders(pipeline)]
    if any(id(parameter) in learning for network in encoders for parameter in network.parameters()):
        return None

    def encode(texts: list[str]) -> States:
        for _, network, _ in text_encoders(pipeline):
            network.eval().to(device)
        return frozen_states(family_of(pipeline), pipeline, texts, device)

    return TextStates(encode, text_digest(pipeline), cache)


def read_ahead(text: TextStates, captions: Iterable[str], pipeline: Any, keep: bool) -> None:
    """Encode all captions that a training will see, so that its text encoders need not share a device with the denoiser: they
    leave it, and where they are not to be kept, the pipeline and memory."""
    text.encode_all(captions)
    for name, network, _ in list(text_encoders(pipeline)):
        network.to("cpu")
        if not keep:
            pipeline.register_modules(**{name: None})


def text_digest(pipeline: Any) -> str:
    """All that makes a text's states: networks, tokenizers, how many tokens they read, what is put around a text, and how the family
    reads an empty one. 16 hexadecimal digits."""
    family = family_of(pipeline)
    parts = [type(pipeline).__name__, getattr(pipeline.config, "force_zeros_for_empty_prompt", None)]
    for name, network, tokenizer in text_encoders(pipeline):
        parts += [module_digest(network), family.limit(pipeline, name), sorted(tokenizer.get_vocab().items())]
        if template := getattr(tokenizer, "chat_template", None):
            parts.append(template)
        if around := family.spelled(pipeline, name, ""):
            parts.append(around)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
