"""What a step sees: weights that make the DreamBooth loss, sizes of the photographs, and the prior's own prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from skinaug.errors import InputError
from skinaug.finetune.batches import Photographs, training_batch
from skinaug.finetune.finetune import Prior
from skinaug.finetune.moments import Moments
from skinaug.manifest import Manifest


class NumberedMoments:
    """Stands for cached moments: image i is full of i."""

    views = 1

    def take(self, rows: np.ndarray, views: np.ndarray) -> torch.Tensor:
        return torch.tensor(rows).float().reshape(-1, 1, 1, 1, 1).expand(-1, 2, 4, 2, 2)


def with_sizes(photographs: Manifest) -> Manifest:
    number = pl.int_range(len(photographs))
    return photographs.with_table(photographs.table.with_columns(width=100 + number, height=200 + number))


@pytest.fixture
def shown(photographs: Manifest) -> Photographs:
    return Photographs(NumberedMoments(), with_sizes(photographs), lambda row, rng: f"photograph {row}", 16)


def test_a_batch_says_how_large_its_photographs_were(shown: Photographs):
    batch = training_batch(3, shown, None, 0.0, 6, 0.0, seed=0)
    rows = batch["moments"][:, 0, 0, 0, 0].long()
    assert batch["captions"] == [f"photograph {row}" for row in rows]
    expected = torch.stack([200 + rows, 100 + rows, torch.full_like(rows, 16)], 1)
    assert torch.equal(batch["sizes"], expected)
    assert batch["weights"].sum().item() == pytest.approx(1)


def test_the_priors_loss_is_added_to_that_of_the_photographs(shown: Photographs, photographs: Manifest):
    """Mean over photographs plus weight times mean over the prior (Ruiz et al. 2023, equation 2)."""
    prior = Photographs(NumberedMoments(), photographs, lambda row, rng: "a photo of skin", 16)
    batch = training_batch(0, shown, prior, 0.5, 6, 0.0, seed=0)
    errors = torch.arange(12.0)
    expected = errors[:6].mean() + 0.5 * errors[6:].mean()
    assert (batch["weights"] * errors).sum().item() == pytest.approx(expected.item())
    assert batch["captions"][6:] == ["a photo of skin"] * 6
    assert torch.equal(batch["moments"][:6], training_batch(0, shown, None, 0.0, 6, 0.0, seed=0)["moments"])


def test_a_batch_tells_where_the_lesions_of_each_view_are(photographs: Manifest, tmp_path: Path):
    """A mask that is white on its left half: on the left of the picture, on the right of its mirror image."""
    half = np.zeros((16, 16), bool)
    half[:, :8] = True
    Image.fromarray(half).save(tmp_path / "half.png")
    masked = photographs.with_table(photographs.table.with_columns(mask=pl.lit(str(tmp_path / "half.png"))))
    moments = Moments(tmp_path, tuple(masked.table["sha256"]), 1, True)
    shown = Photographs(moments, masked, lambda row, rng: "", 16, masks=True)
    cover = shown.cover(np.array([0, 1]), np.array([0, 1]), 4)
    assert cover.shape == (2, 1, 4, 4)
    assert torch.equal(cover[0, 0], torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(4, 4))
    assert torch.equal(cover[1], cover[0].flip(-1))


def test_a_prior_without_weight_is_refused():
    with pytest.raises(InputError, match=r"finetune\.prior\.weight=0"):
        Prior(0, None, None)
