"""Base models: the first that loads wins, nothing that needs a pickle loads, and what is missing is told quickly."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusion_components import save_tiny_pipeline

from skinaug import base
from skinaug.base import check_base, load_pipeline
from skinaug.errors import InputError

MIRRORS = ["nobody/no-such-model", "nobody/nor-this-one"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("base") / "pipeline")


def test_a_folder_loads_in_float32_without_a_safety_checker(folder: Path, tmp_path: Path):
    half = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float16)
    half.save_pretrained(tmp_path / "half")
    pipeline = load_pipeline(str(tmp_path / "half"))
    assert pipeline.safety_checker is None
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {part.dtype for part in parts} == {torch.float32}
    expected = half.unet.state_dict()
    assert all(torch.equal(value, expected[key].float()) for key, value in pipeline.unet.state_dict().items())


def test_a_folder_wins_over_the_hub(folder: Path):
    assert isinstance(load_pipeline(str(folder), MIRRORS), StableDiffusionPipeline)


def test_the_first_mirror_that_loads_wins(folder: Path, monkeypatch: pytest.MonkeyPatch):
    tried = []

    def download(hub_id: str, revision: str | None) -> Path:
        tried.append(hub_id)
        if hub_id == MIRRORS[0]:
            raise OSError("repository not found")
        return folder

    monkeypatch.setattr(base, "check_base", lambda path, hub_ids: None)
    monkeypatch.setattr(base, "_download", download)
    assert isinstance(load_pipeline(hub_ids=MIRRORS), StableDiffusionPipeline)
    assert tried == MIRRORS
    with pytest.raises(InputError, match=r"nobody/no-such-model: repository not found(.|\n)*base\.path="):
        load_pipeline(hub_ids=MIRRORS[:1])


def test_no_network_is_told_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    start = time.monotonic()
    with pytest.raises(InputError, match=r"cannot be reached(.|\n)*nor-this-one(.|\n)*base\.path="):
        check_base(None, MIRRORS)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("path", ["no/such/folder", "package://enormous"])
def test_a_folder_without_a_pipeline_is_refused(path: str):
    with pytest.raises(InputError, match="no diffusers pipeline"):
        load_pipeline(path)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "pickled")
    weights = tmp_path / "pickled/unet/diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(InputError, match="safetensors"):
        load_pipeline(str(tmp_path / "pickled"))


def test_broken_weights_are_refused(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken/unet/diffusion_pytorch_model.safetensors").write_bytes(b"half a file")
    with pytest.raises(InputError, match="broken"):
        load_pipeline(str(tmp_path / "broken"))
