"""Models to files: whole, and over what a killed try left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skinaug.finetune.export import save_whole
from skinaug.finetune.finetune import write_phrases


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
