"""Weights that wait in the machine's memory, and texts that are read before anything is drawn: the pictures are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusion_components import save_tiny

from skinaug.errors import InputError
from skinaug.generate import predict
from skinaug.generate.offload import offload_pipeline
from skinaug.generate.predict import Renderer
from skinaug.generate.settings import OFFLOADS, Settings, check_settings
from skinaug.models.aside import without_encoders
from skinaug.models.base import load_folder
from skinaug.models.trainer import make_trainer

PROMPTS = ["a photo of acne", "a photo of acne", "a photo of nevus", "eczema on the leg"]
ROWS = [{"prompt": prompt, "seed": seed} for seed, prompt in enumerate(PROMPTS)]
SETTINGS = Settings(2.0, 3, "ddim", 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("offload") / "sdxl", "sdxl")


def renderer(folder: Path, **options) -> Renderer:
    return Renderer(load_folder(folder), SETTINGS, ROWS, batch_size=2, max_redraws=0, **options).eval()


def drawn(model: Renderer, device: str = "cpu", precision: str = "32-true") -> np.ndarray:
    """All pictures, uint8 [N, S, S, 3]."""
    engine = make_trainer(device, 1, precision, enable_progress_bar=False)
    return np.concatenate([batch.pictures for batch in engine.predict(model)])


@pytest.fixture(scope="module")
def plain(folder: Path) -> np.ndarray:
    return drawn(renderer(folder))


def test_on_a_cpu_nothing_is_offloaded_and_that_is_told(
    folder: Path, plain: np.ndarray, capsys: pytest.CaptureFixture
):
    assert np.array_equal(drawn(renderer(folder, offload="model")), plain)
    assert "generate.offload=model: a CPU draws, there is nothing to offload." in capsys.readouterr().out


def test_hooks_that_fetch_weights_change_no_picture(folder: Path):
    model, other = renderer(folder), renderer(folder)
    with without_encoders(other.pipeline):
        offload_pipeline(other.pipeline, "group", torch.device("cpu"))
    other.denoise = other.network.forward
    with torch.inference_mode():
        pictures = [each.render(ROWS, [row["seed"] for row in ROWS]) for each in (model, other)]
    assert np.array_equal(*pictures)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", OFFLOADS)
def test_offloaded_weights_draw_the_same_pictures_in_less_memory(kind: str, folder: Path):
    most, pictures = [], []
    for offload in (None, kind):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        pictures.append(drawn(renderer(folder, offload=offload), "gpu").astype(int))
        most.append(torch.cuda.max_memory_allocated())
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert most[1] < most[0]


@pytest.mark.parametrize("room", [0, 2**31])
def test_texts_are_read_before_the_pictures_or_in_stretches(
    room: int, folder: Path, plain: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(predict, "STATES_BYTES", room)
    model, told = renderer(folder), []
    encode, denoise = model.family.encode, model.denoise

    def reading(pipeline, texts, device):
        told.extend(texts)
        return encode(pipeline, texts, device)

    def drawing(*args, **given):
        told.append("picture") if told[-1] != "picture" else None
        assert model.pipeline.text_encoder is None, "not there while a picture is drawn"
        return denoise(*args, **given)

    monkeypatch.setattr(model.family, "encode", reading)
    model.denoise = drawing
    assert np.array_equal(drawn(model), plain)
    read = [text for text in told if text != "picture"]
    assert sorted(read) == sorted({"", *PROMPTS}), "each once"
    assert told.index("picture") == (4 if room else 2), (
        "the empty text and the first batch's before its pictures"
    )
    assert model.pipeline.text_encoder is not None, "put back"


def test_half_precision_weights_draw(folder: Path, plain: np.ndarray):
    pictures = drawn(renderer(folder), precision="bf16-true")
    assert np.abs(pictures.astype(int) - plain).mean() < 8


def test_quantised_weights_are_offloaded_whole():
    check_settings(1, 1.0, 1, "ddim", 16, 1, quantize=8, offload="model")
    with pytest.raises(InputError, match="choose model or null"):
        check_settings(1, 1.0, 1, "ddim", 16, 1, quantize=8, offload="group")
    with pytest.raises(InputError, match="offload must be one of"):
        check_settings(1, 1.0, 1, "ddim", 16, 1, offload="disk")
