"""LoRAs of a family whose pipeline reads none: in peft's layout, taken, checked, and told of in the card."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusion_components import plain_pipeline
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_bases.pixart import READING, SIZE
from tiny_bases.table import save_tiny_base

from skinaug.errors import InputError
from skinaug.finetune.card import lora_code
from skinaug.finetune.given import take_weights
from skinaug.finetune.methods.lora import Lora
from skinaug.models.base import load_pipeline
from skinaug.models.layouts import LORA_FILE, PEFT_CONFIG, PEFT_FILE
from skinaug.models.weights import load
from skinaug.prompts import PromptSet


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base") / "pixart", "pixart_sigma")


@pytest.fixture(scope="module", params=[{}, {"use_dora": True, "lora_dropout": 0.5}], ids=["lora", "dora"])
def taught(base: Path, tmp_path_factory: pytest.TempPathFactory, request) -> Path:
    """An artifact with a LoRA of random matrices."""
    pipeline, out = plain_pipeline(base), tmp_path_factory.mktemp("taught")
    method = Lora(rank=2, alpha=8, options=request.param)
    generator = torch.Generator().manual_seed(0)
    for parameter in method.prepare(pipeline, ["nevus"], 0):
        parameter.data += torch.randn(parameter.shape, generator=generator) / 2
    method.save(pipeline, ["nevus"], out)
    (out / "labels.json").write_text(json.dumps({"nevus": "nevus"}))
    return out


def draw(pipeline: DiffusionPipeline) -> np.ndarray:
    size = {"height": SIZE, "width": SIZE, "num_inference_steps": 2, "output_type": "np", **READING}
    return pipeline("a photo of nevus", **size, generator=torch.Generator().manual_seed(0)).images[0]


def plainly(base: Path, folder: Path) -> np.ndarray:
    """A picture by diffusers and peft alone."""
    pipeline = plain_pipeline(base)
    PeftModel.from_pretrained(pipeline.transformer, folder)
    return draw(pipeline)


def test_a_lora_draws_as_peft_reads_it(base: Path, taught: Path):
    files = sorted(path.name for path in (taught / "lora").iterdir())
    assert files == [PEFT_CONFIG, PEFT_FILE]
    pipeline, _ = load(partial(load_pipeline, str(base)), taught)
    wanted = plainly(base, taught / "lora")
    np.testing.assert_allclose(draw(pipeline), wanted, atol=1e-4)
    assert np.abs(wanted - draw(plain_pipeline(base))).max() > 0.01
    assert not any("lora" in name for name in pipeline.transformer.state_dict()), "merged"


def test_the_card_tells_how_to_load_it(base: Path, taught: Path):
    names = {"folder": taught, "pipeline": plain_pipeline(base)}
    exec("\n".join(lora_code(taught)), names)
    np.testing.assert_allclose(draw(names["pipeline"]), plainly(base, taught / "lora"), atol=1e-4)


def test_one_that_was_made_elsewhere_is_taken_as_it_is(base: Path, taught: Path, photographs, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    take_weights(
        str(taught / "lora"),
        None,
        PromptSet("plain", ["a photo of {label}"]),
        "theirs",
        "unknown",
        manifest=photographs,
        base=partial(load_pipeline, str(base)),
        out=out,
    )
    pipeline, _ = load(partial(load_pipeline, str(base)), out)
    np.testing.assert_allclose(draw(pipeline), plainly(base, taught / "lora"), atol=1e-4)


def lose(folder: Path) -> None:
    tensors = load_file(folder / PEFT_FILE)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / PEFT_FILE)


def rename(folder: Path) -> None:
    tensors = load_file(folder / PEFT_FILE)
    save_file(
        {name.replace("blocks.1", "blocks.9"): value for name, value in tensors.items()}, folder / PEFT_FILE
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose, "does not fit this base model: .* that the layers need are not in it"),
        (rename, "does not fit this base model: .* found a layer"),
        (lambda folder: (folder / PEFT_CONFIG).unlink(), "does not fit this base model"),
        (lambda folder: (folder / PEFT_FILE).unlink(), "missing"),
        (lambda folder: (folder / PEFT_FILE).write_bytes(b"x" * 99), "not a whole safetensors"),
        (
            lambda folder: (folder / PEFT_FILE).rename(folder / LORA_FILE),
            "PixArt-Sigma takes a LoRA as adapter_model.safetensors",
        ),
    ],
    ids=["a tensor lost", "other layers", "no settings", "no weights", "torn", "another layout"],
)
def test_what_does_not_fit_is_refused(base: Path, taught: Path, tmp_path: Path, spoil, message: str):
    shutil.copytree(taught, tmp_path / "taught")
    spoil(tmp_path / "taught" / "lora")
    with pytest.raises(InputError, match=message):
        load(partial(load_pipeline, str(base)), tmp_path / "taught")


def test_the_file_is_the_same_each_time(base: Path, taught: Path, tmp_path: Path):
    """Sets in peft's settings have an order of their own in each process."""
    settings = json.loads((taught / "lora" / PEFT_CONFIG).read_text())
    assert settings["target_modules"] == sorted(settings["target_modules"])
    assert settings["lora_dropout"] == 0, "of training alone"
