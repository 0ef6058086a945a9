"""Training images' captions, and captions as token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet

Caption = Callable[[int, np.random.Generator], str]


def caption_rows(manifest: Manifest, captions: PromptSet, phrases: Mapping[str, str]) -> Caption:
    """A function of (row, rng) that describes an image; `phrases` stand for classes, others have the prompt set's words."""
    rows = manifest.table.to_dicts()

    def caption(row: int, rng: np.random.Generator) -> str:
        return captions.caption(rows[row], rng, phrase=phrases.get(rows[row]["label"]))

    return caption


def tokenize(pipeline: Any, texts: list[str]) -> Tensor:
    """Token ids as the pipeline itself makes them, int64 [B, L]; a token of several vectors is spelled out."""
    tokenizer = pipeline.tokenizer
    texts = [pipeline.maybe_convert_prompt(text, tokenizer) for text in texts]
    length = tokenizer.model_max_length
    return tokenizer(
        texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    ).input_ids
