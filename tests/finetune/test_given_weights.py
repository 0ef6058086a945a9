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
from single_files import single_file

from skinaug.errors import InputError
from skinaug.finetune.given import check_weights, take_weights
from skinaug.manifest import Manifest
from skinaug.models.base import load_pipeline
from skinaug.models.phrases import read_phrases
from skinaug.models.single_file import save_configuration
from skinaug.models.weights import digest, load, model_folders
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


def take(path, data: Manifest, base: Path, out: Path, phrases=(), **more) -> Path:
    settings = {"path": path, "name": "theirs", "seen": "unknown", **more}
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


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of each family whose weights are not those that are given."""
    base = save_tiny(tmp_path_factory.mktemp("other") / request.param, request.param)
    pipeline = plain_pipeline(base)
    torch.manual_seed(5)
    with torch.no_grad():
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            for parameter in part.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    pipeline.save_pretrained(base.with_name("theirs"))
    return base


UNREAD = {
    **{
        f"model_ema.layer{number}": torch.ones(2) for number in range(120)
    },  # as many as diffusers takes for an average
    "model_ema.decay": torch.ones(()),
    "betas": torch.ones(4),
    "sqrt_alphas_cumprod": torch.ones(4),
    "posterior_mean_coef1": torch.ones(4),
    "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    "conditioner.embedders.1.model.logit_scale": torch.ones(()),
    "first_stage_model.loss.logvar": torch.zeros(()),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_in_one_file_is_the_pipeline_it_was_made_of(
    data: Manifest, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: torch.dtype
):
    theirs = plain_pipeline(other.with_name("theirs")).to(dtype)
    file = tmp_path / "theirs.safetensors"
    mine = {
        name: value for name, value in UNREAD.items() if "_model.transf" not in name or other.name == "sd1"
    }
    save_file(single_file(theirs) | mine, file)
    out = take(str(file), data, other, tmp_path / "out")
    assert f"left out {len(mine)} tensors" in capsys.readouterr().out
    pipeline, identity = load(partial(load_pipeline, str(other)), out)
    assert identity == digest(theirs.to(torch.float32))
    # Equal weights: where they lie in memory decides the last bits of some processors' products.
    drawn, expected = draw(pipeline, "a photo of red"), draw(theirs, "a photo of red")
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-5)
    ours = digest(plain_pipeline(other))
    assert identity != ours


def test_a_checkpoint_is_described_by_a_folder_without_weights(
    data: Manifest, sd1: Path, other: Path, tmp_path: Path
):
    theirs = plain_pipeline(other.with_name("theirs"))
    folder = save_configuration(theirs, tmp_path / "configuration")
    assert not list(folder.rglob("*.safetensors"))
    save_file(single_file(theirs), tmp_path / "theirs.safetensors")
    path = str(tmp_path / "theirs.safetensors")
    out = take(path, data, sd1, tmp_path / "out", config=str(folder))
    assert load(partial(load_pipeline, str(sd1)), out)[1] == digest(theirs)
    (folder / "vae/config.json").unlink()
    with pytest.raises(InputError, match=r"(?s)does not describe a pipeline:\n  vae: missing"):
        take(path, data, sd1, tmp_path / "again", config=str(folder))
    with pytest.raises(InputError, match=r"describes a checkpoint in one file, and finetune.path has none"):
        take(str(sd1), data, sd1, tmp_path / "again", config=str(sd1))


def test_a_checkpoint_that_fits_in_part_is_refused_by_count_and_name(
    data: Manifest, sd1: Path, tmp_path: Path
):
    whole = single_file(plain_pipeline(sd1))
    total, bias, layer = (
        len(whole),
        "model.diffusion_model.out.2.bias",
        "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
    )
    encoder = next(name for name in whole if name.endswith("mlp.fc1.weight"))
    mended = {name: value for name, value in whole.items() if name not in (bias, encoder)}
    renamed = {name.replace("out.2", "out.3"): value for name, value in whole.items()}
    for tensors, said in (
        (
            mended,
            rf"{total - 2} of its {total - 2} .* 2 of {total} that are needed.*Not in it:\n  unet.conv_out.bias\n  text_enc",
        ),
        (
            whole | {"v_pred": torch.ones(1)},
            rf"{total} of its {total + 1} tensors found.*Without a place:\n  v_pred",
        ),
        (
            whole | {layer: torch.ones(3)},
            rf"{total - 1} of its {total}.*Without a place:\n  {layer}\n.*down_blocks.0.resnets.0.conv1",
        ),
        (
            renamed,
            rf"{total - 2} of its {total} .*  model.diffusion_model.out.3.bias.*  unet.conv_out.weight",
        ),
    ):
        save_file(tensors, tmp_path / "part.safetensors")
        with pytest.raises(InputError, match=f"(?s)does not fit this configuration: {said}"):
            take(str(tmp_path / "part.safetensors"), data, sd1, tmp_path / "out")
        (tmp_path / "out").rmdir()


def test_a_checkpoint_of_another_family_or_without_a_part(
    data: Manifest, sd1: Path, other: Path, tmp_path: Path
):
    whole = single_file(plain_pipeline(other))
    file = tmp_path / "theirs.safetensors"
    save_file({name: value for name, value in whole.items() if not name.startswith("first_stage")}, file)
    with pytest.raises(InputError, match=r"it lacks vae \(first_stage_model\.\*\)"):
        check_weights(str(file), "x", "none")
    if other.name == "sdxl":
        save_file(whole, file)
        with pytest.raises(
            InputError, match=r"is SDXL in one file.*and the configuration is a StableDiffusionPipeline's"
        ):
            take(str(file), data, sd1, tmp_path / "out")


def _files(folder: Path) -> dict[str, str]:
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, folder / "strange.safetensors")
    save_file({"model.diffusion_model.x": torch.ones(1), "y": torch.ones(1)}, folder / "single.safetensors")
    save_file({"emb_params": torch.ones(1, 8)}, folder / "token.safetensors")
    whole = (folder / "token.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-4])
    (folder / "pickle.pt").write_bytes(b"")
    (folder / "model.ckpt").write_bytes(b"")
    (folder / "empty").mkdir()
    return {file.name: str(file) for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "strange.safetensors",
            "2 tensors that are neither a LoRA's, a textual inversion's nor a checkpoint's",
        ),
        (
            "single.safetensors",
            r"for Stable Diffusion 1 it lacks vae .*, text_encoder .*Convert others with diffusers",
        ),
        ("token.safetensors", "one a class"),
        ("cut.safetensors", "not a whole safetensors file"),
        ("pickle.pt", r"is a pickle.*save_file\(torch.load\(<file>, weights_only=True\), <new file>\)"),
        ("model.ckpt", r'is a pickle.*weights_only=True\)\["state_dict"\]'),
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
