"""What a base model's text encoders read, and what of a text they would lose without a word: its end, and unknown tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from skinaug.models.families.table import family_of


def text_encoders(pipeline: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each text encoder that is there: its component's name, the network and its tokenizer."""
    for suffix in ("", "_2", "_3"):
        encoder = pipeline.components.get(f"text_encoder{suffix}")
        if encoder is not None:
            yield f"text_encoder{suffix}", encoder, pipeline.components[f"tokenizer{suffix}"]


def cut_off(pipeline: Any, texts: Sequence[str]) -> list[str]:
    """A line for each text and encoder that reads only its beginning: what would be lost, and how many tokens are read."""
    problems, family = [], family_of(pipeline)
    for name, _, tokenizer in text_encoders(pipeline):
        limit = family.limit(pipeline, name)
        spelled = [family.spelled(pipeline, name, text) for text in texts]
        for text, ids in zip(texts, tokenizer(spelled, verbose=False).input_ids, strict=True):
            if len(ids) > limit:
                lost = tokenizer.decode(ids[limit - 1 : -1])
                problems.append(f"  {text!r} would lose {lost!r}: {len(ids)} tokens of {limit}, {name}")
    return problems


def unknown_tokens(pipeline: Any, texts: Sequence[str]) -> list[str]:
    """Tokens <...> in the texts that some tokenizer was never taught: it would spell them out as punctuation and letters."""
    asked = {token for text in texts for token in re.findall(r"<[^<>\s]+>", text)}
    taught = [set(tokenizer.get_vocab()) for _, _, tokenizer in text_encoders(pipeline)] if asked else []
    return sorted(token for token in asked if not all(token in known for known in taught))
