"""Starting weights of a text encoder that has seen captions but no pictures: it tells apart what they say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from skinaug.finetune.text import Caption
from skinaug.finetune.words import WordTraining, learn, numbers_of, vocabulary_of, word_heads, word_loss
from skinaug.manifest import Manifest
from skinaug.prompts import Value


def tell_captions_apart(
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    manifest: Manifest,
    caption: Caption,
    attributes: Mapping[str, Mapping[Value, float]],
    training: WordTraining,
    seed: int,
) -> None:
    """Teach the mean of a caption's states which value each attribute of its picture has, in place.

    A denoiser asks its text encoder for little at first, and an encoder that starts from random weights has little to give:
    they wait for each other. The mean over all states is what the UNet's time embedding starts from too.

    Args:
        attributes: each attribute's possible values, by name; a picture without a value does not count for that attribute. Where
            the manifest has none of them, nothing is taught.
        caption: describes a row of the manifest.
    """
    vocabulary = vocabulary_of(manifest, attributes)
    if not vocabulary:
        return
    numbers = numbers_of(manifest, vocabulary)
    torch.manual_seed(seed)
    heads = word_heads(text_encoder.config.hidden_size, vocabulary)
    rng = np.random.default_rng(seed)

    def loss() -> Tensor:
        rows = rng.integers(len(manifest), size=training.batch_size)
        texts = [caption(int(row), rng) for row in rows]
        read = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        summary = text_encoder(read.input_ids).last_hidden_state.mean(1)
        told = {name: head(summary) for name, head in heads.items()}
        return word_loss(told, {name: values[rows] for name, values in numbers.items()})

    learn([*text_encoder.parameters(), *heads.parameters()], loss, training, "text encoder")
