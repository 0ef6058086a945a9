"""How many pictures fit."""

from __future__ import annotations

import pytest
import torch

from skinaug.generate import batches
from skinaug.generate.batches import images_at_once

SD = (128, 256, 512, 512)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_an_integer_wins():
    assert images_at_once(7, SD, 512, CPU) == 7


@pytest.mark.parametrize(("free_gib", "count"), [(0.1, 1), (8, 4), (20, 10), (80, 40)])
def test_half_of_the_free_memory_over_one_gib_an_image(monkeypatch, free_gib: float, count: int):
    monkeypatch.setattr(batches, "_free_bytes", lambda device: int(free_gib * 2**30))
    assert images_at_once("auto", SD, 512, CUDA) == count


def test_a_ceiling_for_each_device(monkeypatch):
    monkeypatch.setattr(batches, "_free_bytes", lambda device: 2**34)
    assert images_at_once("auto", SD, 64, CPU) == 32
    assert images_at_once("auto", SD, 64, CUDA) == 256


def test_the_demo_draws_32_at_once_on_a_cpu():
    assert images_at_once("auto", (32, 64, 64), 64, CPU) == 32
