"""Two folders file by file: bytes decide, and what is not equal is told in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from skinaug.store.compare_files import Verdict, compare_files


def write(folder: Path) -> Path:
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures/one.png").write_bytes(b"one")
    (folder / "pictures/two.png").write_bytes(b"two")
    (folder / "scores.json").write_text(json.dumps({"test": {"top1": 0.5}, "train": {"seconds": 1.5}}))
    pl.DataFrame({"name": ["a", "b", None], "score": [0.5, None, float("nan")]}).write_parquet(
        folder / "table.parquet"
    )
    save_file({"near": torch.zeros(3), "far": torch.ones(2)}, folder / "weights.safetensors")
    return folder


def test_equal_folders(tmp_path: Path):
    assert compare_files(write(tmp_path / "old"), write(tmp_path / "new"), but=["weights.safetensors"]) == [
        Verdict("pictures/", True, "2 files"),
        Verdict("scores.json", True),
        Verdict("table.parquet", True),
    ]


CHANGES = {
    "scores.json": lambda path: path.write_text(
        json.dumps({"test": {"top1": 0.25}, "train": {"seconds": 9}})
    ),
    "table.parquet": lambda path: pl.DataFrame(
        {"name": ["a", "b", None], "score": [0.75, 1.0, float("nan")]}
    ).write_parquet(path),
    "weights.safetensors": lambda path: save_file(
        {"near": torch.tensor([0, 1e-3, 0]), "far": torch.tensor([1.0, 3.0])}, path
    ),
    "pictures/two.png": lambda path: path.write_bytes(b"twp"),
    "pictures/one.png": lambda path: path.unlink(),
    "more.csv": lambda path: path.write_text("a"),
}


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("scores.json", "test.top1: 0.5 -> 0.25"),
        ("table.parquet", "score: 2 of 3 rows differ, at most 0.25 apart"),
        ("weights.safetensors", "far: at most 2 apart\nnear: at most 0.001 apart"),
        ("pictures/two.png", "other bytes"),
        ("pictures/one.png", "only in the store"),
        ("more.csv", "only built again"),
    ],
)
def test_one_change_is_the_one_difference(tmp_path: Path, name: str, about: str):
    old, new = write(tmp_path / "old"), write(tmp_path / "new")
    CHANGES[name](new / name)
    assert [verdict for verdict in compare_files(old, new) if not verdict.equal] == [
        Verdict(name, False, about)
    ]


def test_how_fast_the_machine_was_is_left_out_and_said(tmp_path: Path):
    old, new = write(tmp_path / "old"), write(tmp_path / "new")
    (new / "scores.json").write_text(json.dumps({"test": {"top1": 0.5}, "train": {"seconds": 9}}))
    assert compare_files(old, new)[1] == Verdict("scores.json", True, "left out: train.seconds")
