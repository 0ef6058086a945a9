"""Keys of every experiment and preset stay as they were recorded, so that nobody's store is lost by a change of the code.

`keys.json` was written at commit 5108298. Where a key must change, because a stage makes something else of the same values, its
version is raised and this file is written anew: `python tests/test_keys.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from skinaug import pipeline
from skinaug.launch import configs
from skinaug.sources import root as sources

FILE = Path(__file__).with_name("keys.json")
RECORDED = json.loads(FILE.read_text())


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with everywhere(monkeypatch):
        yield


def everywhere(monkeypatch: pytest.MonkeyPatch):
    """Contents of files and folders count by name alone: their digests hold the place where they lie."""
    monkeypatch.setattr(pipeline, "folder_digest", lambda folder: f"content of {folder.name}")
    monkeypatch.setattr(sources, "check_root", lambda source, root, stage: Path(root) if root else None)
    monkeypatch.setattr(sources, "root_digest", lambda root, source: "names and sizes")
    configs.register()
    return initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3")


def keys(command: str) -> dict[str, str]:
    """The key of each step of a command, by name."""
    stage, *overrides = command.split()
    return {
        name: recipe.key for name, recipe in pipeline.recipes(compose("config", overrides), stage).items()
    }


@pytest.mark.parametrize("command", RECORDED)
def test_keys_are_those_that_were_recorded(command: str):
    assert list(keys(command).items()) == list(RECORDED[command].items()), "the same, built in the same order"


def test_every_option_and_experiment_is_recorded():
    told = {word for command in RECORDED for word in command.split()}
    for folder in configs.folder("conf").iterdir():
        if folder.name in ("trainer", "logger", "review", "report") or not folder.is_dir():
            continue
        for file in folder.glob("[!_]*.yaml"):
            assert {
                f"{folder.name}={file.stem}",
                f"{folder.name}=[{file.stem}]",
            } & told or folder.name == "hydra"
    for file in configs.folder("experiments").glob("*.yaml"):
        assert f"experiment={file.stem}" in told


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch, everywhere(patch):
        lines = [f"{json.dumps(command)}: {json.dumps(keys(command))}" for command in RECORDED]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
