"""Weights that were made elsewhere: every format draws the same pictures as diffusers draws with them, or is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from coloured import coloured_images
from diffusion_components import WIDTH_G, WIDTH_L, plain_pipeline, save_tiny
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from skinaug.errors import InputError
from skinaug.finetune.given import check_weights, take_weights
from skinaug.manifest import Manifest
from skinaug.models.base import load_pipeline
from skinaug.models.phrases import read_phrases
from skinaug.models.weights import load, model_folders
from skinaug.prompts import PromptSet

CAPTIONS = PromptSet("plain", ["a photo of {label}"])
CLASSES = ("blue", "green", "red")
ALPHA, RANK = 6.0, 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return coloured_images(tmp_path_factory.mktemp("photographs"), {"train": 1})


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / request.param, request.param)


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "sd1", "sd1")


def take(path, data: Manifest, base: Path, out: Path, phrases=()) -> Path:
    settings = {"path": path, "name": "theirs", "seen": "unknown"}
    check_weights(**settings)
    out.mkdir()
    given = {"manifest": data, "base": partial(load_pipeline, str(base)), "out": out}
    take_weights(phrases=dict(phrases), captions=CAPTIONS, **settings, **given)
    return out


def draw(pipeline, prompt: str) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    options = {"num_inference_steps": 3, "guidance_scale": 2.5, "output_type": "np"}
    return pipeline(prompt, generator=generator, **options).images[0]


def drawn(base: Path, out: Path, label: str) -> np.ndarray:
    """As the stage `generate` draws a class."""
    ((folder, _),) = model_folders(out, [label])
    return draw(
        load(partial(load_pipeline, str(base)), folder)[0], f"a photo of {read_phrases(out, [label])[label]}"
    )


def lora(base: Path) -> dict[str, torch.Tensor]:
    """Random matrices of rank RANK for some layers, under diffusers' names without a scale."""
    pipeline, tensors = plain_pipeline(base), {}
    torch.manual_seed(1)
    for part, targets in (
        ("unet", ["to_q", "to_v"]),
        ("text_encoder", ["q_proj", "k_proj", "v_proj", "out_proj"]),
    ):
        model = getattr(pipeline, part)
        model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
        for name, value in get_peft_model_state_dict(model).items():
            tensors[f"{part}.{name}"] = 0.3 * torch.randn(value.shape)
    return tensors


def kohya(tensors: dict[str, torch.Tensor], two_encoders: bool) -> dict[str, torch.Tensor]:
    """The same matrices under kohya's names, with a scale of ALPHA / RANK."""
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if two_encoders else "lora_te"}
    found = {}
    for name, value in tensors.items():
        part, _, layer = name.partition(".")
        layer, _, matrix = layer.partition(".lora_")
        if part != "unet" and not layer.startswith("text_model."):
            layer = f"text_model.{layer}"  # as the format has it, whatever transformers calls its modules
        layer = f"{prefixes[part]}_{layer.replace('.', '_')}"
        found[f"{layer}.lora_{'down' if matrix[0] == 'A' else 'up'}.weight"] = value
        found[f"{layer}.alpha"] = torch.tensor(ALPHA)
    return found


def scaled(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The scale in the second matrix, where no file needs to tell it."""
    return {name: value * (ALPHA / RANK if "lora_B" in name else 1) for name, value in tensors.items()}


def test_a_lora_under_kohyas_names_draws_as_under_diffusers(data: Manifest, base: Path, tmp_path: Path):
    matrices = lora(base)
    save_file(kohya(matrices, base.name == "sdxl"), tmp_path / "kohya.safetensors")
    save_file(scaled(matrices), tmp_path / "diffusers.safetensors")
    save_file(matrices, tmp_path / "unscaled.safetensors")
    pictures = {
        name: drawn(base, take(str(tmp_path / f"{name}.safetensors"), data, base, tmp_path / name), "red")
        for name in ("kohya", "diffusers", "unscaled")
    }
    plain = draw(plain_pipeline(base), "a photo of red")
    np.testing.assert_allclose(pictures["kohya"], pictures["diffusers"], atol=2e-3)
    assert np.abs(pictures["kohya"] - pictures["unscaled"]).max() > 1e-2, "alpha counts"
    assert np.abs(pictures["unscaled"] - plain).max() > 1e-2


@pytest.mark.parametrize("rslora", [False, True])
def test_a_lora_that_peft_saved(data: Manifest, sd1: Path, tmp_path: Path, rslora: bool):
    pipeline = plain_pipeline(sd1)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["to_q"], use_rslora=rslora)
    torch.manual_seed(2)
    pipeline.unet = get_peft_model(pipeline.unet, config)
    for name, parameter in pipeline.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    pipeline.unet.save_pretrained(tmp_path / "peft")
    out = take(str(tmp_path / "peft"), data, sd1, tmp_path / "out")
    pipeline.unet = pipeline.unet.merge_and_unload()
    np.testing.assert_allclose(drawn(sd1, out, "red"), draw(pipeline, "a photo of red"), atol=2e-3)


def test_textual_inversions_of_diffusers_and_a1111(data: Manifest, sd1: Path, tmp_path: Path):
    torch.manual_seed(3)
    vectors = torch.randn(2, WIDTH_L)
    save_file({"<sore>": vectors}, tmp_path / "one.safetensors")
    save_file({"emb_params": vectors}, tmp_path / "sunset.safetensors")
    save_file({"emb_params": vectors}, tmp_path / "other.safetensors")
    files = {"red": "one", "green": "sunset", "blue": "other"}
    paths = {label: str(tmp_path / f"{name}.safetensors") for label, name in files.items()}
    out = take(paths, data, sd1, tmp_path / "out", phrases={"blue": "bluish-thing"})
    assert read_phrases(out, CLASSES) == {"red": "<sore>", "green": "<sunset>", "blue": "bluish-thing"}
    pipeline = plain_pipeline(sd1)
    pipeline.load_textual_inversion(str(tmp_path / "one.safetensors"))
    wanted = draw(pipeline, "a photo of <sore>")
    for label in CLASSES:
        np.testing.assert_allclose(drawn(sd1, out, label), wanted, atol=1e-6)


def test_a_textual_inversion_for_two_encoders(data: Manifest, tmp_path: Path):
    base = save_tiny(tmp_path / "sdxl", "sdxl")
    for label in CLASSES:
        tensors = {"clip_l": torch.randn(1, WIDTH_L), "clip_g": torch.randn(1, WIDTH_G)}
        save_file(tensors, tmp_path / f"{label}.safetensors")
    paths = {label: str(tmp_path / f"{label}.safetensors") for label in CLASSES}
    out = take(paths, data, base, tmp_path / "out")
    assert read_phrases(out, CLASSES)["red"] == "<red>"
    assert np.abs(drawn(base, out, "red") - drawn(base, out, "blue")).max() > 1e-3


def test_a_model_for_each_class_and_trigger_words(data: Manifest, sd1: Path, tmp_path: Path):
    save_file(scaled(lora(sd1)), tmp_path / "lora.safetensors")
    paths = {"red": str(tmp_path / "lora.safetensors"), "green": str(sd1), "blue": str(sd1)}
    out = take(paths, data, sd1, tmp_path / "out", phrases={"red": "sks skin"})
    assert read_phrases(out, CLASSES) == {"red": "sks skin", "green": "green", "blue": "blue"}
    np.testing.assert_array_equal(drawn(sd1, out, "green"), draw(plain_pipeline(sd1), "a photo of green"))
    alone = take(paths["red"], data, sd1, tmp_path / "alone", phrases={"red": "sks skin"})
    np.testing.assert_array_equal(drawn(sd1, out, "red"), drawn(sd1, alone, "red"))


def test_a_lora_that_fits_in_part_is_refused_by_the_layer(data: Manifest, sd1: Path, tmp_path: Path):
    matrices = lora(sd1)
    layer = next(name for name in matrices if "to_q" in name).rpartition(".lora_")[0]
    for matrix in "AB":
        matrices[f"unet.nowhere.to_q.lora_{matrix}.weight"] = matrices[f"{layer}.lora_{matrix}.weight"] + 1
    save_file(matrices, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match=r"(?s)does not fit this base model.*unet\.nowhere\.to_q"):
        take(str(tmp_path / "lora.safetensors"), data, sd1, tmp_path / "out")


def _files(folder: Path) -> dict[str, str]:
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, folder / "strange.safetensors")
    save_file({"model.diffusion_model.x": torch.ones(1), "y": torch.ones(1)}, folder / "single.safetensors")
    save_file({"emb_params": torch.ones(1, 8)}, folder / "token.safetensors")
    whole = (folder / "token.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-4])
    (folder / "pickle.pt").write_bytes(b"")
    (folder / "empty").mkdir()
    return {file.name: str(file) for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("strange.safetensors", "2 tensors that are neither a LoRA's nor a textual inversion's"),
        ("single.safetensors", "Convert it with diffusers"),
        ("token.safetensors", "one a class"),
        ("cut.safetensors", "not a whole safetensors file"),
        ("pickle.pt", "is a pickle"),
        ("empty", "neither a pipeline"),
        ("nowhere", "There are no weights"),
    ],
)
def test_what_is_no_weights_is_told_from_the_header(tmp_path: Path, name: str, said: str):
    files = _files(tmp_path)
    with pytest.raises(InputError, match=said):
        check_weights(files.get(name, str(tmp_path / name)), "x", "none")


def test_classes_and_words_are_the_datas(data: Manifest, sd1: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"No class: wart. Without weights: blue, red"):
        take({"green": str(sd1), "wart": str(sd1)}, data, sd1, tmp_path / "out")
    with pytest.raises(InputError, match="No class: wart"):
        take(str(sd1), data, sd1, tmp_path / "again", phrases={"wart": "x"})
    for settings, said in (
        ({"seen": "some"}, "Choose none, train, unknown"),
        ({"name": None}, "give the weights a name"),
    ):
        with pytest.raises(InputError, match=said):
            check_weights(**({"path": str(sd1), "name": "x", "seen": "none"} | settings))


def test_what_a_peft_folder_cannot_say(sd1: Path, data: Manifest, tmp_path: Path):
    folder = tmp_path / "peft"
    folder.mkdir()
    save_file({"base_model.model.x.lora_A.weight": torch.ones(1)}, folder / "adapter_model.safetensors")
    config = {"r": 2, "lora_alpha": 2, "rank_pattern": {"x": 4}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="ranks or scales a layer"):
        take(str(folder), data, sd1, tmp_path / "out")
    assert load_file(folder / "adapter_model.safetensors")
