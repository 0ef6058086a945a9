"""Cached moments are the autoencoder's own, and batches are functions of their number."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from skinaug.finetune.latents import balanced_rows, captioned_batch, encode_moments


def test_moments_are_those_of_each_image_and_its_mirror_image(tiny_random_pipeline: Path):
    vae = AutoencoderKL.from_pretrained(tiny_random_pipeline, subfolder="vae")
    pixels = np.random.default_rng(0).integers(256, size=(3, 16, 16, 3), dtype=np.uint8)
    moments = encode_moments(vae, pixels, torch.device("cpu"), batch_size=2, mirror=True)
    assert moments.shape == (3, 2, 2, 4, 8, 8)
    images = torch.from_numpy(pixels.copy()).movedim(-1, 1) / 127.5 - 1
    for side, picture in enumerate((images, images.flip(3))):
        posterior = vae.encode(picture).latent_dist
        torch.testing.assert_close(moments[:, side, 0].float(), posterior.mean, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(moments[:, side, 1].float(), posterior.std, rtol=1e-2, atol=1e-2)


def test_classes_take_turns_and_every_image_comes_once_a_cycle():
    labels = [0] * 6 + [1] * 2
    rows = balanced_rows(labels, 0, 24, seed=0)
    assert (np.asarray(labels)[rows].reshape(12, 2) == [0, 1]).all()
    assert sorted(rows[0:12:2]) == [0, 1, 2, 3, 4, 5]
    assert sorted(rows[1:4:2]) == sorted(rows[5:8:2]) == [6, 7]
    assert (rows[10:20] == balanced_rows(labels, 10, 10, seed=0)).all()
    assert (rows != balanced_rows(labels, 0, 24, seed=1)).any()


def test_a_batch_depends_on_its_number_alone():
    moments = torch.arange(8.0).reshape(8, 1, 1, 1, 1, 1).expand(8, 2, 2, 4, 2, 2)
    make = partial(
        captioned_batch,
        moments=moments,
        labels=[0, 0, 0, 0, 1, 1, 1, 1],
        caption=lambda row, rng: str(row),
        tokenize=lambda texts: torch.tensor([int(text or -1) for text in texts]),
        batch_size=4,
        caption_dropout=0.5,
        seed=3,
    )
    first, second = make(5), make(5)
    assert torch.equal(first["input_ids"], second["input_ids"])
    shown = first["moments"][:, 0, 0, 0, 0].int()
    captioned = first["input_ids"] >= 0
    assert torch.equal(first["input_ids"][captioned].int(), shown[captioned])
    dropped = np.mean([(make(number)["input_ids"] < 0).float().mean().item() for number in range(100)])
    assert 0.4 < dropped < 0.6
