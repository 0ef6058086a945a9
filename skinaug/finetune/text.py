"""Training images' captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet

Caption = Callable[[int, np.random.Generator], str]


def caption_rows(manifest: Manifest, captions: PromptSet, phrases: Mapping[str, str]) -> Caption:
    """A function of (row, rng) that describes an image; `phrases` stand for classes, others have the prompt set's words."""
    rows = manifest.table.to_dicts()

    def caption(row: int, rng: np.random.Generator) -> str:
        return captions.caption(rows[row], rng, phrase=phrases.get(rows[row]["label"]))

    return caption


def many_captions(caption: Caption, manifest: Manifest, captions: PromptSet) -> list[str]:
    """Distinct captions of up to 1,000 images, each described so often that its longest caption is very likely there."""
    rows = range(0, len(manifest), max(1, len(manifest) // 1000))
    draws = range(4 * len(captions.templates))
    return sorted({caption(row, np.random.default_rng([row, draw])) for row in rows for draw in draws})
