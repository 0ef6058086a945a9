"""Weights in 8 and 4 bits under a LoRA, and text encoders that leave before the denoiser learns."""

from __future__ import annotations

import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusion_components import save_tiny
from lightning import Callback
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint

from skinaug.errors import InputError
from skinaug.finetune.methods.full import Full
from skinaug.finetune.methods.lora import Lora
from skinaug.generate.predict import Renderer
from skinaug.generate.settings import Settings, check_settings
from skinaug.models import quantize as quantized
from skinaug.models.base import load_folder
from skinaug.models.families.table import denoiser
from skinaug.models.quantize import quantize, quantize_pipeline
from skinaug.models.weights import load

LORA = Lora(rank=2, alpha=8)
SGD = {"optimizer": lambda parameters: torch.optim.AdamW(parameters, lr=0.02), "warmup_steps": 0}


class Losses(Callback):
    """Notes the loss of each step, and what of the pipeline is where."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.encoders: list[object] = []
        self.kinds: set[str] = set()

    def on_train_batch_end(self, trainer, module, outputs, *_) -> None:
        self.losses.append(float(outputs["loss"]))
        self.encoders += [module.pipeline.components["text_encoder"], *module.text_encoders]
        self.kinds |= {type(layer).__name__ for layer in module.denoiser.modules()}


def taught(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "lora" / "pytorch_lora_weights.safetensors")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("bases")
    made: dict[str, Path] = {}
    return lambda family: made.setdefault(family, save_tiny(root / family, family))


@pytest.mark.parametrize("bits", [8, 4])
def test_a_lora_learns_on_quantised_weights_and_is_a_plain_one(bits: int, teach, tmp_path: Path, bases):
    watch, plain = Losses(), Losses()
    same = {
        "base": lambda: load_folder(bases("sd1")),
        "steps": 12,
        "caption_dropout": 0.0,
        "fresh": True,
        **SGD,
    }
    teach(tmp_path / "few", LORA, quantize=bits, watch=watch, **same)
    teach(tmp_path / "all", LORA, watch=plain, **same)
    assert f"Linear{bits}bit{'Lt' if bits == 8 else ''}" in watch.kinds
    assert np.mean(watch.losses[-4:]) < np.mean(watch.losses[:4])
    assert watch.losses[0] == pytest.approx(plain.losses[0], rel=0.05)
    assert watch.losses != plain.losses
    ours, full = taught(tmp_path / "few"), taught(tmp_path / "all")
    assert {name: (value.shape, value.dtype) for name, value in ours.items()} == {
        name: (value.shape, value.dtype) for name, value in full.items()
    }
    pipeline, _ = load(lambda: load_folder(bases("sd1")), tmp_path / "few")  # refuses what does not fit whole
    assert {type(layer) for layer in denoiser(pipeline).modules() if isinstance(layer, nn.Linear)} == {
        nn.Linear
    }
    assert f"bits of the base's weights | {bits}" in (tmp_path / "few" / "README.md").read_text()


@pytest.mark.parametrize("bits", [8, 4])
def test_a_killed_run_on_quantised_weights_ends_as_one_that_was_not(bits: int, teach, tmp_path: Path):
    teach(tmp_path / "whole", LORA, quantize=bits, fresh=True)
    with pytest.raises(RuntimeError, match="killed"):
        teach(tmp_path / "killed", LORA, quantize=bits, stop_at=4, fresh=True)  # behind a grid of samples
    teach(tmp_path / "killed", LORA, quantize=bits, fresh=True)
    whole, resumed = taught(tmp_path / "whole"), taught(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_checkpoints_hold_what_learns_alone(teach, tmp_path: Path):
    with pytest.raises(RuntimeError, match="killed"):
        teach(tmp_path / "out", LORA, quantize=4, stop_at=2)
    (file,) = (tmp_path / "out" / "checkpoints").glob("*.ckpt")
    names = torch.load(file, weights_only=True)["state_dict"].keys()
    assert names
    assert all(".lora_" in name for name in names)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_every_family_draws_with_quantised_weights(bits: int, family: str, bases):
    settings = Settings(2.0, 3, "flow" if family == "sd3" else "ddim", 16)
    rows = [{"prompt": "a photo of acne"}]
    before = load_folder(bases(family))
    after = load_folder(bases(family))
    quantize_pipeline(after, denoiser(after), bits, torch.float32)
    with torch.inference_mode():
        exact, rough = (Renderer(each, settings).eval().render(rows, [3]) for each in (before, after))
    assert 0 < np.abs(exact - rough).mean() < 0.05


def test_large_text_encoders_are_quantised_and_small_ones_are_not(bases, monkeypatch: pytest.MonkeyPatch):
    pipeline = load_folder(bases("sdxl"))
    small = sum(parameter.numel() for parameter in pipeline.text_encoder.parameters())
    monkeypatch.setattr(quantized, "LARGE", small + 1)
    quantize_pipeline(pipeline, denoiser(pipeline), 8, torch.float32)
    kinds = [
        type(getattr(pipeline, name).get_submodule("encoder.layers.0.mlp.fc1")).__name__
        if "encoder" in dict(getattr(pipeline, name).named_children())
        else type(getattr(pipeline, name).get_submodule("text_model.encoder.layers.0.mlp.fc1")).__name__
        for name in ("text_encoder", "text_encoder_2")
    ]
    assert kinds == ["Linear", "FrozenLinear8bit"]


def test_layers_that_an_architecture_keeps_in_float32_stay():
    network = nn.Module()
    network.wo, network.wi = nn.Linear(64, 64), nn.Linear(64, 64)
    network._keep_in_fp32_modules = ["wo"]
    quantize(network, 4, torch.float32)
    assert [type(network.wo), type(network.wi).__name__] == [nn.Linear, "Linear4bit"]
    assert network.wi.weight.numel() == 64 * 64 / 2


def test_a_layer_that_shares_its_weights_stays():
    network = nn.Module()
    network.words, network.head, network.other = nn.Embedding(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
    network.head.weight = network.words.weight
    quantize(network, 4, torch.float32)
    assert [type(network.head), type(network.other).__name__] == [nn.Linear, "Linear4bit"]
    assert network.head.weight is network.words.weight


def test_8_bits_compute_and_learn_as_bitsandbytes_does():
    from bitsandbytes.nn import Linear8bitLt

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32))
    quantize(network, 8, torch.float32)
    found = []
    for forward in (network[0].forward, partial(Linear8bitLt.forward, network[0])):
        x = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 64).requires_grad_()
        output = forward(x)
        output.square().sum().backward()
        found.append((output.detach(), x.grad))
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("bits", [8, 4])
def test_gradient_checkpointing_lets_go_of_what_quantised_layers_are_given(bits: int):
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    quantize(network, bits, torch.float32)
    given = []
    network[1].register_forward_pre_hook(lambda _, inputs: given.append(weakref.ref(inputs[0])))
    output = checkpoint(network, torch.ones(2, 64, requires_grad=True), use_reentrant=False)
    assert output.requires_grad
    assert given[0]() is None


def test_frozen_text_encoders_are_gone_while_a_lora_learns(teach, tmp_path: Path, tiny_random_pipeline: Path):
    held = []

    def base():
        pipeline = load_folder(tiny_random_pipeline)
        held.append(weakref.ref(pipeline.text_encoder))
        return pipeline

    watch = Losses()
    teach(tmp_path / "out", LORA, watch=watch, base=base, sample_every_num_steps=3)
    assert set(watch.encoders) == {None}
    assert held[0]() is None, "its memory is free"
    assert (tmp_path / "out" / "samples" / "step_000003.png").is_file(), "drawn from texts read before"


def test_a_whole_pipeline_is_saved_with_its_text_encoders(teach, tmp_path: Path):
    pipeline = teach(tmp_path / "out", Full())
    saved = load_file(tmp_path / "out" / "pipeline" / "text_encoder" / "model.safetensors")
    assert len(saved) == len(pipeline.text_encoder.state_dict())


def test_weights_that_learn_are_not_quantised(teach, tmp_path: Path):
    with pytest.raises(InputError, match="weights of 8 bits cannot learn"):
        teach(tmp_path / "out", Full(), quantize=8)
    with pytest.raises(InputError, match="ema_decay exclude each other"):
        teach(tmp_path / "out", LORA, quantize=8, ema_decay=0.9)


@pytest.mark.parametrize("bits", [2, 16, True, "8"])
def test_there_are_8_bits_and_4(bits, teach, tmp_path: Path):
    with pytest.raises(InputError, match="8 or 4 bits, or null"):
        teach(tmp_path / "out", LORA, quantize=bits)


def test_a_missing_library_is_told_before_anything_is_built(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'skinaug\[quantized\]'"):
        check_settings(1, 1.0, 1, "ddim", 16, 1, quantize=4)
    check_settings(1, 1.0, 1, "ddim", 16, 1)
