"""Which of the checkpoints that a killed training left is gone on from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from skinaug.models.checkpoints import is_whole, newest, resumable


def save(folder: Path, step: int) -> Path:
    path = folder / f"step={step}.ckpt"
    torch.save({"step": step, "weights": torch.arange(4000.0)}, path)
    return path


def test_the_latest_step_counts_and_not_the_latest_time(tmp_path: Path):
    late, early = save(tmp_path, 100), save(tmp_path, 20)
    os.utime(late, (0, 0))  # saved by a clock that was set back
    assert newest(tmp_path) == late
    assert newest(tmp_path / "none") is None
    assert is_whole(early)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_checkpoint_without_its_content_is_passed_over(tmp_path: Path, share: float, zeros: bool):
    older, torn = save(tmp_path, 20), save(tmp_path, 100)
    content = torn.read_bytes()
    kept = int(share * len(content))
    torn.write_bytes(content[:kept] + (bytes(len(content) - kept) if zeros else b""))
    assert newest(tmp_path) == older
    older.unlink()
    assert newest(tmp_path) is None


def test_a_hole_in_the_middle_shows(tmp_path: Path):
    path = save(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[8000:9000] = bytes(1000)
    path.write_bytes(content)
    assert not is_whole(path)


def test_a_training_whose_best_checkpoint_is_lost_starts_anew(tmp_path: Path):
    best, last = save(tmp_path, 3), tmp_path / "last.ckpt"
    states = {"best": {"best_model_path": str(best)}, "last": {"best_model_path": ""}, "curves": {"rows": []}}
    torch.save({"callbacks": states}, last)
    assert resumable(last)
    best.write_bytes(best.read_bytes()[:-100])
    assert not resumable(last)
    best.unlink()
    assert not resumable(last)
    assert not resumable(tmp_path / "none.ckpt")
