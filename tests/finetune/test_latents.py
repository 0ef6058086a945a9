"""Batches are functions of their number."""

from __future__ import annotations

import numpy as np
import torch

from skinaug.finetune.latents import balanced_rows, captioned_batch


def test_classes_take_turns_and_every_image_comes_once_a_cycle():
    labels = [0] * 6 + [1] * 2
    rows = balanced_rows(labels, 0, 24, seed=0)
    assert (np.asarray(labels)[rows].reshape(12, 2) == [0, 1]).all()
    assert sorted(rows[0:12:2]) == [0, 1, 2, 3, 4, 5]
    assert sorted(rows[1:4:2]) == sorted(rows[5:8:2]) == [6, 7]
    assert (rows[10:20] == balanced_rows(labels, 10, 10, seed=0)).all()
    assert (rows != balanced_rows(labels, 0, 24, seed=1)).any()


class NumberedMoments:
    """Moments that tell their row and view."""

    views = 4

    def take(self, rows: np.ndarray, views: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([rows, views], 1)).float()[:, :, None, None, None]


def make(number: int, caption_dropout: float = 0.5) -> dict:
    return captioned_batch(
        number,
        moments=NumberedMoments(),
        labels=[0, 0, 0, 0, 1, 1, 1, 1],
        caption=lambda row, rng: f"{row} {rng.integers(1000)}",
        batch_size=4,
        caption_dropout=caption_dropout,
        seed=3,
    )


def test_a_batch_depends_on_its_number_alone():
    first, second, other = make(5), make(5), make(6)
    assert first["number"] == 5
    assert first["captions"] == second["captions"] != other["captions"]
    assert torch.equal(first["moments"], second["moments"])
    assert first["rows"].dtype == np.int64
    assert first["rows"].tolist() == balanced_rows([0] * 4 + [1] * 4, 20, 4, seed=3).tolist()
    assert first["moments"][:, 0, 0, 0, 0].tolist() == first["rows"].tolist()


def test_captions_are_the_rows_own_or_empty_and_views_are_drawn_alike():
    batches = [make(number) for number in range(200)]
    for batch in batches:
        for row, caption in zip(batch["rows"], batch["captions"], strict=True):
            assert caption == "" or caption.startswith(f"{row} ")
    dropped = np.mean([caption == "" for batch in batches for caption in batch["captions"]])
    assert 0.45 < dropped < 0.55
    views = np.bincount(np.concatenate([batch["moments"][:, 1, 0, 0, 0].int() for batch in batches]))
    assert len(views) == 4
    assert views.min() > 150
    assert all(all(make(number, caption_dropout=0)["captions"]) for number in range(50))
