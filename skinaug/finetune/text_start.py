"""Starting weights of a text encoder that has seen captions but no pictures: it tells apart what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from rich.progress import track
from torch import nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import CLIPTextModel, CLIPTokenizer

from skinaug.finetune.loss import warmup_cosine
from skinaug.finetune.text import Caption
from skinaug.manifest import Manifest
from skinaug.prompts import Value


@dataclass(frozen=True)
class TextTraining:
    """steps, warmup_steps: optimizer steps; batch_size: captions."""

    steps: int
    batch_size: int
    warmup_steps: int
    optimizer: Callable[[Sequence[nn.Parameter]], Optimizer]


def tell_captions_apart(
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    manifest: Manifest,
    caption: Caption,
    attributes: Mapping[str, Mapping[Value, float]],
    training: TextTraining,
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
    named = {name: list(values) for name, values in attributes.items() if name in manifest.table.columns}
    targets = {
        name: torch.tensor([values.index(v) if v in values else -1 for v in manifest.table[name]])
        for name, values in named.items()
    }
    if not targets:
        return
    torch.manual_seed(seed)
    heads = nn.ModuleDict(
        {name: nn.Linear(text_encoder.config.hidden_size, len(values)) for name, values in named.items()}
    )
    optimizer = training.optimizer([*text_encoder.parameters(), *heads.parameters()])
    factor = partial(warmup_cosine, warmup_steps=training.warmup_steps, num_steps=training.steps)
    scheduler = LambdaLR(optimizer, factor)
    rng = np.random.default_rng(seed)
    for _ in track(range(training.steps), "text encoder", transient=True):
        rows = rng.integers(len(manifest), size=training.batch_size)
        texts = [caption(int(row), rng) for row in rows]
        read = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        summary = text_encoder(read.input_ids).last_hidden_state.mean(1)
        losses = [
            functional.cross_entropy(head(summary), targets[name][rows], ignore_index=-1, reduction="sum")
            for name, head in heads.items()
        ]
        (torch.stack(losses).sum() / training.batch_size).backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
