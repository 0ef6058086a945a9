"""A reader of words: tells from a picture's latents which value each of its attributes has."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor, nn

from skinaug.finetune.words import UNKNOWN, Vocabulary, WordTraining, learn, word_heads, word_loss

WIDTH = 48  # channels of the first layers
NOISE = 0.1  # deviation of what is added to latents while the reader learns: faint patterns should not be what it reads


class WordReader(nn.Module):
    """Seven convolutions, mean and maximum over places, and a linear layer an attribute.

    expected: float [V, V] by attribute, a row a value: the mean probabilities that the reader gives to training pictures of
    that value. Rows of values that no picture has are 0.
    """

    def __init__(self, latent_channels: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        sizes = [latent_channels, WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH, 3 * WIDTH, 3 * WIDTH]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes)):
            stride = 2 if number in (2, 4) else 1
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]
        self.places = nn.Sequential(*layers, nn.Conv2d(sizes[-1], sizes[-1], 1))
        self.heads = word_heads(2 * sizes[-1], vocabulary)
        for name, values in vocabulary.items():
            self.register_buffer(f"expected_{name}", torch.zeros(len(values), len(values)))

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        """Logits [B, V] by attribute, of latents [B, C, h, w] in the denoiser's units."""
        places = self.places(latents)
        summary = torch.cat([places.mean((2, 3)), places.amax((2, 3))], 1)
        return {name: head(summary) for name, head in self.heads.items()}

    def expected(self, name: str) -> Tensor:
        """See the class."""
        return self.get_buffer(f"expected_{name}")


def train_reader(
    moments: Tensor,
    scaling_factor: float,
    numbers: Mapping[str, Tensor],
    vocabulary: Vocabulary,
    training: WordTraining,
    trainer: Trainer,
    seed: int,
) -> WordReader:
    """A reader, frozen, on the CPU, taught on the trainer's device in its precision.

    moments: float [N, 2 (mean, deviation), C, h, w] of training pictures; numbers: of their values, int64 [N] by attribute.
    """
    torch.manual_seed(seed)
    device = trainer.strategy.root_device
    reader = WordReader(moments.shape[2], vocabulary).to(device, memory_format=torch.channels_last)
    rng = np.random.default_rng(seed)

    def loss() -> Tensor:
        rows = rng.integers(len(moments), size=training.batch_size)
        means, deviations = moments[rows].unbind(1)
        latents = (means + deviations * torch.randn_like(means)) * scaling_factor
        latents += NOISE * torch.randn_like(means)
        mirrored = [side for side in (-1, -2) if rng.random() < 0.5]
        with trainer.precision_plugin.forward_context():
            told = reader(latents.flip(mirrored).to(device, memory_format=torch.channels_last))
        return word_loss(told, {name: values[rows].to(device) for name, values in numbers.items()})

    learn(list(reader.parameters()), loss, training, "reader of words")
    reader.eval().requires_grad_(False)
    for name, read in readings(reader, moments[:, 0] * scaling_factor).items():
        for value, row in enumerate(reader.expected(name)):
            if (numbers[name] == value).any():
                row.copy_(read[numbers[name] == value].mean(0))
    return reader.to("cpu")


@torch.no_grad()
def readings(reader: WordReader, latents: Tensor) -> dict[str, Tensor]:
    """Probabilities [N, V] by attribute, float32 on the CPU."""
    device = next(reader.parameters()).device
    parts = [reader(part.to(device)) for part in latents.split(256)]
    return {name: torch.cat([part[name].softmax(1).cpu() for part in parts]) for name in reader.heads}


def misreading(logits: Tensor, expected: Tensor, numbers: Tensor) -> Tensor:
    """How far what is read lies from what is read in pictures of the same value: KL divergence in nats, [B].

    logits: [B, V]; expected: [V, V]; numbers: int64 [B] of the values that were asked for, UNKNOWN where none was: 0.
    """
    target = expected[numbers.clamp(min=0)]
    divergence = nn.functional.kl_div(logits.float().log_softmax(1), target, reduction="none").sum(1)
    return divergence * (numbers != UNKNOWN)
