"""Words as classes: which value each attribute of a picture has, and networks that learn to tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from skinaug.finetune.loss import warmup_cosine
from skinaug.manifest import Manifest
from skinaug.prompts import Value

Vocabulary = Mapping[str, Sequence[Value]]  # each attribute's possible values
UNKNOWN = -1  # the number of a value that a picture does not have


@dataclass(frozen=True)
class WordTraining:
    """Of a network that learns words. steps, warmup_steps: optimizer steps; batch_size: captions or pictures a step."""

    steps: int
    batch_size: int
    warmup_steps: int
    optimizer: Callable[[Sequence[nn.Parameter]], Optimizer]


def vocabulary_of(manifest: Manifest, attributes: Mapping[str, Mapping[Value, float]]) -> Vocabulary:
    """The values of those attributes that the manifest has a column of."""
    return {name: list(values) for name, values in attributes.items() if name in manifest.table.columns}


def numbers_of(manifest: Manifest, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """The number of each picture's value, by attribute: int64 [N], UNKNOWN where it has none."""
    return {
        name: torch.tensor([values.index(v) if v in values else UNKNOWN for v in manifest.table[name]])
        for name, values in vocabulary.items()
    }


def word_heads(width: int, vocabulary: Vocabulary) -> nn.ModuleDict:
    """A linear layer an attribute, from a summary [B, width] to logits of its values."""
    return nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in vocabulary.items()})


def word_loss(logits: Mapping[str, Tensor], numbers: Mapping[str, Tensor]) -> Tensor:
    """Cross-entropy in nats, summed over attributes, mean over the batch; UNKNOWN counts 0."""
    losses = [
        functional.cross_entropy(given, numbers[name], ignore_index=UNKNOWN, reduction="sum") / len(given)
        for name, given in logits.items()
    ]
    return torch.stack(losses).sum()


def learn(
    parameters: Sequence[nn.Parameter], loss: Callable[[], Tensor], training: WordTraining, what: str
) -> None:
    """Minimize loss(), of a new batch at each call, in place; `what` stands before the progress bar."""
    optimizer = training.optimizer(parameters)
    factor = partial(warmup_cosine, warmup_steps=training.warmup_steps, num_steps=training.steps)
    scheduler = LambdaLR(optimizer, factor)
    for _ in track(range(training.steps), what, transient=True):
        loss().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
