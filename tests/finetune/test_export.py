"""Models to files: whole, and over what a killed try left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from skinaug.finetune.export import save_whole, sort_metadata
from skinaug.models.phrases import write_phrases


def save(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"_name_or_path": "/home/somebody", "width": 3}))


def test_what_a_killed_try_has_saved_is_replaced(tmp_path: Path):
    folder = tmp_path / "pipeline"
    save(folder)
    (folder / "old.safetensors").write_bytes(b"old")
    save_whole(save, folder)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert json.loads((folder / "config.json").read_text()) == {"width": 3}


def test_phrases_are_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", die)  # the last moment before they are there
    with pytest.raises(KeyboardInterrupt):
        write_phrases({"acne": "<acne>"}, tmp_path)
    assert not (tmp_path / "labels.json").exists()


def test_equal_tensors_and_metadata_make_equal_files(tmp_path: Path):
    tensors, told = (
        {"b": torch.ones(2), "a": torch.zeros(3)},
        {str(number): "é" * number for number in range(9)},
    )
    written = set()
    for number in range(8):
        file = tmp_path / f"{number}.safetensors"
        save_file(tensors, file, told)
        sort_metadata(file)
        written.add(file.read_bytes())
    assert len(written) == 1
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == told
        assert torch.equal(opened.get_tensor("b"), tensors["b"])
