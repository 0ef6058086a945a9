"""Fine-tuning artifacts: what fits is used as diffusers uses it, and what does not fit is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from skinaug.errors import InputError
from skinaug.generate.plan import Settings
from skinaug.generate.predict import Renderer
from skinaug.generate.weights import digest, load, read_phrases

TOKEN = "<acne>"


def plain(tiny: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_token(folder: Path, width: int = 32, vectors: int = 2) -> Path:
    path = folder / "textual_inversion" / "acne.safetensors"
    path.parent.mkdir(parents=True)
    torch.manual_seed(1)
    save_file({TOKEN: torch.randn(vectors, width)}, path)
    return path


def save_lora(folder: Path, tiny: Path) -> Path:
    unet = UNet2DConditionModel.from_pretrained(tiny, subfolder="unet")
    unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"]))
    torch.manual_seed(1)
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    StableDiffusionPipeline.save_lora_weights(
        folder / "lora", unet_lora_layers=get_peft_model_state_dict(unet)
    )
    return folder / "lora" / "pytorch_lora_weights.safetensors"


def ours(tiny: Path, weights: Path, prompt: str) -> np.ndarray:
    pipeline, _ = load(partial(plain, tiny), weights)
    with torch.inference_mode():
        return Renderer(pipeline, Settings(2.5, 4, "ddim", 16)).eval().render([prompt], [0])[0]


def theirs(pipeline: StableDiffusionPipeline, prompt: str) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return pipeline(prompt, 16, 16, 4, guidance_scale=2.5, generator=generator, output_type="np").images[0]


def test_textual_inversion_as_in_diffusers(tiny: Path, weights: Path):
    pipeline = plain(tiny)
    pipeline.load_textual_inversion(str(save_token(weights)))
    prompt = f"a photo of {TOKEN}"
    assert np.abs(ours(tiny, weights, prompt) - theirs(pipeline, prompt)).max() < 1e-4
    assert np.abs(theirs(pipeline, prompt) - theirs(plain(tiny), prompt)).max() > 1e-2, (
        "the token means something"
    )


def test_lora_as_in_diffusers(tiny: Path, weights: Path):
    pipeline = plain(tiny)
    pipeline.load_lora_weights(str(save_lora(weights, tiny).parent))
    prompt = "a photo of acne"
    assert np.abs(ours(tiny, weights, prompt) - theirs(pipeline, prompt)).max() < 1e-3
    assert np.abs(theirs(pipeline, prompt) - theirs(plain(tiny), prompt)).max() > 1e-2, (
        "the LoRA does something"
    )


def test_whole_pipeline_replaces_the_base(tiny: Path, weights: Path):
    changed = plain(tiny)
    changed.unet.conv_out.bias.data += 0.5
    changed.save_pretrained(weights / "pipeline")

    def base():
        raise AssertionError("the base was loaded")

    pipeline, _ = load(base, weights)
    assert torch.equal(pipeline.unet.conv_out.bias, changed.unet.conv_out.bias)


def test_digest_knows_content_and_nothing_else(tiny: Path, weights: Path, tmp_path: Path):
    alone = digest(plain(tiny))
    plain(tiny).save_pretrained(tmp_path / "copy")
    assert digest(StableDiffusionPipeline.from_pretrained(tmp_path / "copy")) == alone
    assert load(partial(plain, tiny), weights)[1] == alone
    save_token(weights)
    taught = load(partial(plain, tiny), weights)[1]
    save_lora(weights, tiny)
    assert len({alone, taught, load(partial(plain, tiny), weights)[1]}) == 3


def rename(path: Path, old: str, new: str) -> None:
    save_file({name.replace(old, new): tensor for name, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: rename(path, "unet.", "transformer."), "0 of its"),
        (lambda path: rename(path, "down_blocks.1", "down_blocks.9"), "fit this base"),
        (lambda path: save_file(dict(list(load_file(path).items())[1:]), path), "fit this base"),
        (lambda path: save_file({"unet.x.lora_A.weight": torch.zeros(2, 2)}, path), "fit this base"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "not a whole safetensors"),
        (lambda path: path.unlink(), "missing"),
    ],
    ids=["other model", "some other layers", "a tensor lost", "one stranger", "truncated", "absent"],
)
def test_lora_that_does_not_fit(tiny: Path, weights: Path, spoil, message: str):
    spoil(save_lora(weights, tiny))
    with pytest.raises(InputError, match=message):
        load(partial(plain, tiny), weights)


def test_tokens_of_another_text_encoder(tiny: Path, weights: Path):
    save_token(weights, width=48)
    with pytest.raises(InputError, match="does not fit this base"):
        load(partial(plain, tiny), weights)


def test_tokens_that_the_base_has_already(tiny: Path, weights: Path):
    path = save_token(weights)
    save_file(load_file(path), path.with_name("again.safetensors"))
    with pytest.raises(InputError, match="does not fit this base"):
        load(partial(plain, tiny), weights)


def test_a_broken_pipeline_folder(tiny: Path, weights: Path):
    plain(tiny).save_pretrained(weights / "pipeline")
    (weights / "pipeline" / "unet" / "config.json").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load(partial(plain, tiny), weights)


def test_phrases_of_the_classes_asked_for(weights: Path):
    assert read_phrases(weights, ["nevus"]) == {"nevus": "nevus"}
