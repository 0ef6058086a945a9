"""Fine-tuning artifacts: what fits is used as diffusers uses it, and what does not fit is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusion_components import FAMILIES, WIDTH_G, WIDTH_L, plain_pipeline, save_tiny
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from skinaug.errors import InputError
from skinaug.models.base import load_pipeline
from skinaug.models.phrases import read_phrases
from skinaug.models.weights import digest, load, model_folders

TOKEN = "<acne>"
PROMPT = f"a photo of {TOKEN}"
TAUGHT = ("unet", "transformer", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random pipelines by family."""
    root = tmp_path_factory.mktemp("bases")
    return {family: save_tiny(root / family, family) for family in FAMILIES}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact of one class that adds nothing to its base."""
    return new_artifact(tmp_path / "artifact", {"acne": TOKEN})


def new_artifact(folder: Path, phrases: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps(phrases))
    return folder


def save_token(
    folder: Path, family: str = "sd1", width: int = WIDTH_L, vectors: int = 2, name: str = "acne"
) -> Path:
    path = folder / "textual_inversion" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    tensors = {f"<{name}>": torch.randn(vectors, width)}
    if family == "sdxl":
        tensors = {"clip_l": torch.randn(vectors, width), "clip_g": torch.randn(vectors, WIDTH_G)}
    save_file(tensors, path)
    return path


def save_lora(folder: Path, base: Path, *, text: bool = False, dora: bool = False) -> Path:
    """LoRA of some attention layers of the denoiser and, where asked, of the text encoders."""
    pipeline = plain_pipeline(base)
    layers = {}
    torch.manual_seed(1)
    for part in TAUGHT:
        model = getattr(pipeline, part, None)
        if model is None or ("text" in part and not text):
            continue
        targets = ["q_proj", "v_proj"] if "text" in part else ["to_q", "to_v"]
        model.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=targets, use_dora=dora))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
            elif "magnitude" in name:
                parameter.data *= 1.2
        layers[f"{part}_lora_layers"] = get_peft_model_state_dict(model)
        layers[f"{part}_lora_adapter_metadata"] = model.peft_config["default"].to_dict()
    pipeline.save_lora_weights(folder / "lora", **layers)
    path = folder / "lora" / "pytorch_lora_weights.safetensors"
    if dora and text:  # transformers finds the text encoder's magnitudes by this name only
        rename(path, "lora_magnitude_vector", "lora_magnitude_vector.weight", within="text_encoder")
    return path


def rename(path: Path, old: str, new: str, within: str = "") -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = {
        name.replace(old, new) if name.startswith(within) else name: tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata)


def draw(pipeline, prompt: str = PROMPT) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return pipeline(
        prompt, num_inference_steps=3, guidance_scale=2.5, generator=generator, output_type="np"
    ).images[0]


def ours(base: Path, artifact: Path) -> np.ndarray:
    return draw(load(partial(load_pipeline, str(base)), artifact)[0])


def differ(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_textual_inversion_as_in_diffusers(bases: dict[str, Path], artifact: Path, family: str):
    pipeline = plain_pipeline(bases[family])
    pipeline.load_textual_inversion(str(save_token(artifact)))
    assert differ(ours(bases[family], artifact), draw(pipeline)) == 0
    assert differ(draw(pipeline), draw(plain_pipeline(bases[family]))) > 1e-3, "the token means something"


def test_textual_inversion_of_two_text_encoders_as_in_diffusers(bases: dict[str, Path], artifact: Path):
    vectors = load_file(save_token(artifact, "sdxl"))
    pipeline = plain_pipeline(bases["sdxl"])
    before = draw(pipeline)
    for key, encoder, tokenizer in (
        ("clip_l", "text_encoder", "tokenizer"),
        ("clip_g", "text_encoder_2", "tokenizer_2"),
    ):
        parts = {"text_encoder": getattr(pipeline, encoder), "tokenizer": getattr(pipeline, tokenizer)}
        pipeline.load_textual_inversion(vectors[key], token=TOKEN, **parts)
    assert differ(ours(bases["sdxl"], artifact), draw(pipeline)) == 0
    assert differ(draw(pipeline), before) > 1e-3, "the token means something"


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("text", [False, True], ids=["denoiser", "and text"])
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_lora_draws_what_diffusers_draws_unmerged(
    bases: dict[str, Path], artifact: Path, family: str, text: bool, dora: bool
):
    path = save_lora(artifact, bases[family], text=text, dora=dora)
    pipeline = plain_pipeline(bases[family])
    before = draw(pipeline)
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    assert differ(ours(bases[family], artifact), draw(pipeline)) < 1e-4
    assert differ(draw(pipeline), before) > 1e-3, "the LoRA does something"


def test_magnitudes_that_transformers_would_drop(bases: dict[str, Path], artifact: Path):
    path = save_lora(artifact, bases["sdxl"], text=True, dora=True)
    rename(path, "lora_magnitude_vector.weight", "lora_magnitude_vector")
    with pytest.raises(InputError, match=r"\d+ of its \d+ tensors found a layer"):
        load(partial(load_pipeline, str(bases["sdxl"])), artifact)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_pipeline_replaces_the_base(bases: dict[str, Path], artifact: Path, family: str):
    changed = plain_pipeline(bases[family])
    changed.vae.decoder.conv_out.bias.data += 0.5
    changed.save_pretrained(artifact / "pipeline")

    def base():
        raise AssertionError("the base was loaded")

    pipeline, _ = load(base, artifact)
    assert differ(draw(pipeline), draw(changed)) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_digest_knows_content_and_nothing_else(
    bases: dict[str, Path], artifact: Path, tmp_path: Path, family: str
):
    base = partial(load_pipeline, str(bases[family]))
    alone = digest(base())
    plain_pipeline(bases[family]).save_pretrained(tmp_path / "copy")
    assert digest(load_pipeline(str(tmp_path / "copy"))) == alone
    assert load(base, artifact)[1] == alone
    found = {alone}
    if family != "sd3":
        save_token(artifact, family)
        found.add(load(base, artifact)[1])
    save_lora(artifact, bases[family])
    found.add(load(base, artifact)[1])
    pipeline = base()
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    for network in networks:  # any network's weights and the schedule count
        next(network.parameters()).data += 1
        found.add(digest(pipeline))
    pipeline.scheduler.register_to_config(num_train_timesteps=999)
    found.add(digest(pipeline))
    assert len(found) == 1 + (family != "sd3") + 1 + len(networks) + 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: rename(path, "unet.", "transformer."),
            "changes a transformer, and a StableDiffusionPipeline has",
        ),
        (lambda path: rename(path, "unet.", "prior."), "0 of its"),
        (lambda path: rename(path, "down_blocks.1", "down_blocks.9"), "fit this base"),
        (lambda path: save_file(dict(list(load_file(path).items())[1:]), path), "fit this base"),
        (lambda path: save_file({"unet.x.lora_A.weight": torch.zeros(2, 2)}, path), "fit this base"),
        (lambda path: save_file({}, path), "fit this base"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "not a whole safetensors"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "not a whole safetensors"),
        (lambda path: path.unlink(), "missing"),
        (
            lambda path: path.rename(path.with_suffix(".bin")),
            "holds pickles:\n  lora/pytorch_lora_weights.bin",
        ),
    ],
    ids=[
        *("another family", "another part", "some other layers", "a tensor lost", "one stranger", "nothing"),
        *("truncated", "a byte lost", "absent", "pickle"),
    ],
)
def test_lora_that_does_not_fit(bases: dict[str, Path], artifact: Path, spoil, message: str):
    spoil(save_lora(artifact, bases["sd2"]))
    with pytest.raises(InputError, match=message):
        load(partial(load_pipeline, str(bases["sd2"])), artifact)


@pytest.mark.parametrize(
    ("taught", "base"), [("sd1", "sdxl"), ("sdxl", "sd1"), ("sd3", "sdxl"), ("sdxl", "sd3")]
)
def test_lora_of_another_family(bases: dict[str, Path], artifact: Path, taught: str, base: str):
    save_lora(artifact, bases[taught])
    with pytest.raises(InputError, match="does not fit this base model"):
        load(partial(load_pipeline, str(bases[base])), artifact)


def test_tokens_of_another_family(bases: dict[str, Path], artifact: Path):
    path = save_token(artifact)
    for family, message in (
        ("sdxl", "holds <acne>, and a StableDiffusionXLPipeline needs clip_l and"),
        ("sd3", "cannot load into a StableD"),
    ):
        with pytest.raises(InputError, match=message):
            load(partial(load_pipeline, str(bases[family])), artifact)
    save_token(artifact, "sdxl")
    with pytest.raises(InputError, match="holds clip_g, clip_l, and a StableDiffusionPipeline needs a token"):
        load(partial(load_pipeline, str(bases["sd1"])), artifact)
    save_file({"clip_l": torch.zeros(1, WIDTH_L)}, path)
    with pytest.raises(InputError, match="holds clip_l, and a StableDiffusionXLPipeline needs clip_l and"):
        load(partial(load_pipeline, str(bases["sdxl"])), artifact)


def test_tokens_of_another_width(bases: dict[str, Path], artifact: Path):
    for family in ("sd1", "sdxl"):
        save_token(artifact, family, width=40)
        with pytest.raises(InputError, match="does not fit this base"):
            load(partial(load_pipeline, str(bases[family])), artifact)


def test_a_part_of_the_tokens(bases: dict[str, Path], tmp_path: Path):
    artifact = new_artifact(tmp_path / "two", {"acne": TOKEN, "nevus": "<nevus>"})
    save_token(artifact)
    with pytest.raises(
        InputError, match=r"no vectors for <nevus>, which labels.json names; it has them for <acne>"
    ):
        load(partial(load_pipeline, str(bases["sd1"])), artifact)
    for name in ("acne", "nevus", "wart"):
        save_token(artifact, "sdxl", name=name)
    with pytest.raises(InputError, match="names no token <wart>"):
        load(partial(load_pipeline, str(bases["sdxl"])), artifact)


def test_tokens_that_the_base_has_already(bases: dict[str, Path], artifact: Path):
    path = save_token(artifact)
    save_file(load_file(path), path.with_name("again.safetensors"))
    with pytest.raises(InputError, match="does not fit this base"):
        load(partial(load_pipeline, str(bases["sd1"])), artifact)


@pytest.mark.parametrize("name", ["textual_inversion/acne.pt", "pipeline/unet/model.bin", "model.ckpt"])
def test_pickles_are_refused_and_never_opened(bases: dict[str, Path], artifact: Path, name: str):
    (artifact / name).parent.mkdir(parents=True, exist_ok=True)
    (artifact / name).write_bytes(pickle.dumps(print))
    with pytest.raises(InputError, match=rf"holds pickles:\n  {name}\n.*safetensors"):
        load(partial(load_pipeline, str(bases["sd1"])), artifact)


def test_a_truncated_token(bases: dict[str, Path], artifact: Path):
    path = save_token(artifact)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a whole safetensors"):
        load(partial(load_pipeline, str(bases["sd1"])), artifact)


def test_a_broken_pipeline_folder(bases: dict[str, Path], artifact: Path):
    shutil.copytree(bases["sd1"], artifact / "pipeline")
    (artifact / "pipeline" / "unet" / "config.json").unlink()
    with pytest.raises(InputError, match=r"unet: no config.json"):
        load(partial(load_pipeline, str(bases["sd1"])), artifact)


def test_phrases_of_the_classes_asked_for(artifact: Path):
    assert read_phrases(artifact, ["acne"]) == {"acne": TOKEN}
    with pytest.raises(InputError, match=r"not taught these classes: wart. They know acne"):
        read_phrases(artifact, ["acne", "wart"])
    (artifact / "labels.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_phrases(artifact, ["acne"])
    (artifact / "labels.json").unlink()
    with pytest.raises(InputError, match=r"no labels.json"):
        read_phrases(artifact, ["acne"])


def test_one_model_for_all_classes(tmp_path: Path):
    artifact = new_artifact(tmp_path / "all", {"acne": "acne", "nevus": "nevus"})
    assert model_folders(artifact, ["nevus", "acne"]) == [(artifact, ["nevus", "acne"])]
    with pytest.raises(InputError, match="not taught these classes: wart"):
        model_folders(artifact, ["wart"])


def test_a_model_for_each_class(tmp_path: Path):
    artifact = new_artifact(tmp_path / "each", {"acne": "acne", "nevus": "nevus"})
    for label in ("acne", "nevus"):
        new_artifact(artifact / "models" / label, {label: label})
    acne, nevus = ((artifact / "models" / label, [label]) for label in ("acne", "nevus"))
    assert model_folders(artifact, ["nevus", "acne"]) == [nevus, acne]
    assert model_folders(artifact, ["acne"]) == [acne]
    with pytest.raises(InputError, match=r"none for wart\. It has: acne, nevus"):
        model_folders(artifact, ["acne", "wart"])
    (artifact / "models" / "nevus" / "labels.json").unlink()
    with pytest.raises(InputError, match="nevus is not a fine-tuning artifact"):
        model_folders(artifact, ["acne"])
