"""The stage: what learns, what is saved, that plain diffusers reads it, and that a killed run ends as another."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import skinaug
from diffusers import StableDiffusionPipeline
from PIL import Image

from skinaug.errors import InputError
from skinaug.finetune.finetune import keep_base
from skinaug.finetune.methods.lora import Lora
from skinaug.finetune.methods.textual_inversion import TextualInversion
from skinaug.finetune.scope import folder_names
from skinaug.prompts import PromptSet

TWO_VECTORS = TextualInversion(num_vectors=2, initial_word="skin")
LORA = Lora(rank=2, alpha=6, target_modules=["to_q", "to_v", "conv1"])
PROMPT = {"textual_inversion": "a photo of <red>", "lora": "a photo of red"}

PLAIN_DIFFUSERS = """
import sys
from pathlib import Path
import numpy as np, torch
from diffusers import StableDiffusionPipeline
base, out, prompt, picture = sys.argv[1:]
pipeline = StableDiffusionPipeline.from_pretrained(base)
for path in sorted(Path(out, "textual_inversion").glob("*.safetensors")):
    pipeline.load_textual_inversion(str(path), use_safetensors=True)
if Path(out, "lora").is_dir():
    pipeline.load_lora_weights(str(Path(out, "lora")), use_safetensors=True)
assert "skinaug" not in sys.modules
generator = torch.Generator().manual_seed(7)
images = pipeline(prompt, 16, 16, 3, guidance_scale=2.0, generator=generator, output_type="np").images
np.save(picture, images[0])
"""


def draw(pipeline: StableDiffusionPipeline, prompt: str) -> np.ndarray:
    generator = torch.Generator().manual_seed(7)
    with torch.inference_mode():
        return pipeline(prompt, 16, 16, 3, guidance_scale=2.0, generator=generator, output_type="np").images[
            0
        ]


def weights(pipeline: StableDiffusionPipeline) -> dict[str, torch.Tensor]:
    modules = {"unet": pipeline.unet, "text": pipeline.text_encoder, "vae": pipeline.vae}
    return {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


@pytest.mark.parametrize("method", [TWO_VECTORS, LORA], ids=["textual_inversion", "lora"])
def test_a_fresh_process_with_diffusers_alone_draws_the_same(
    method, teach, tiny_random_pipeline: Path, tmp_path: Path
):
    out, picture = tmp_path / "out", tmp_path / "picture.npy"
    pipeline = teach(out, method)
    prompt = PROMPT["lora" if method is LORA else "textual_inversion"]
    ours = draw(pipeline, prompt)
    skinaug(*map(str, (tiny_random_pipeline, out, prompt, picture)), code=PLAIN_DIFFUSERS, check=True)
    np.testing.assert_allclose(np.load(picture), ours, atol=2e-3)
    untaught = StableDiffusionPipeline.from_pretrained(tiny_random_pipeline)
    assert np.abs(draw(untaught, "a photo of red") - ours).max() > 0.02
    assert not (out / "checkpoints").exists(), "only the result is published"


def test_textual_inversion_moves_nothing_but_its_rows(teach, tiny_random_pipeline: Path, tmp_path: Path):
    before = weights(StableDiffusionPipeline.from_pretrained(tiny_random_pipeline))
    pipeline = teach(tmp_path / "out", TWO_VECTORS)
    embedding = pipeline.text_encoder.get_input_embeddings()
    after = weights(pipeline)
    words = next(key for key in before if key.endswith("token_embedding.weight"))
    assert torch.equal(embedding.frozen, before.pop(words))
    assert embedding.new.shape == (6, 32)
    new = words.replace("weight", "new")
    assert after.keys() == before.keys() | {new}
    assert all(torch.equal(after[key], value) for key, value in before.items())
    start = TextualInversion(2, "skin").prepare(
        StableDiffusionPipeline.from_pretrained(tiny_random_pipeline), ("blue", "green", "red"), seed=0
    )[0]
    assert (after[new] != start).any(dim=1).all(), "every vector learns"


def test_lora_moves_nothing_but_its_matrices(teach, tiny_random_pipeline: Path, tmp_path: Path):
    before = weights(StableDiffusionPipeline.from_pretrained(tiny_random_pipeline))
    after = weights(teach(tmp_path / "out", LORA))
    kept = {key.replace(".base_layer", ""): value for key, value in after.items() if ".lora_" not in key}
    assert kept.keys() == before.keys()
    assert all(torch.equal(kept[key], value) for key, value in before.items())


def test_labels_and_samples(teach, tmp_path: Path):
    every = {"sample_prompts": None, "sample_every_num_steps": 3}
    teach(tmp_path / "tokens", TextualInversion(1, "skin"), **every)
    assert json.loads((tmp_path / "tokens/labels.json").read_text()) == {
        c: f"<{c}>" for c in ("blue", "green", "red")
    }
    assert sorted(path.name for path in (tmp_path / "tokens/samples").iterdir()) == [
        "step_000003.png",
        "step_000005.png",
    ]
    with Image.open(tmp_path / "tokens/samples/step_000005.png") as picture:
        assert picture.size == (4 * 16, 3 * 16)


def test_without_finetuning_classes_keep_their_words(photographs, tmp_path: Path):
    captions = PromptSet("plain", ["a photo of {label}"])
    keep_base(captions, manifest=photographs, base=None, trainer=None, logger=False, out=tmp_path)
    assert json.loads((tmp_path / "labels.json").read_text()) == {c: c for c in ("blue", "green", "red")}


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: TextualInversion(0, "skin"), "num_vectors=0"),
        (lambda: TextualInversion(1, "skin", noise=-1.0), "noise=-1"),
        (lambda: Lora(rank=0), "rank=0"),
        (lambda: Lora(alpha=0), "alpha=0"),
        (lambda: Lora(target_modules=[]), "target_modules"),
    ],
)
def test_bad_settings_are_refused_before_a_model_is_loaded(make, word: str):
    with pytest.raises(InputError, match=word):
        make()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"method": TextualInversion(1, "hyperpigmentation")}, "hyperpigmentation"),
        ({"method": Lora(target_modules=["no_such_layer"])}, "no_such_layer"),
        ({"image_size": 15}, "image_size=15"),
        ({"caption_dropout": 1.0}, "caption_dropout"),
        ({"steps": 0}, "steps"),
    ],
)
def test_settings_that_do_not_fit_the_base_are_refused(changes: dict, word: str, teach, tmp_path: Path):
    values = {"method": TWO_VECTORS} | changes
    with pytest.raises(InputError, match=word):
        teach(tmp_path / "out", **values)


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_is_no_number_stops_with_a_reason(teach, tmp_path: Path):
    with pytest.raises(InputError, match=r"loss became nan.*optimizer\.lr"):
        teach(tmp_path / "out", LORA, optimizer=partial(torch.optim.SGD, lr=1e30))


def test_every_class_has_a_folder_of_its_own_in_any_script():
    classes = ["Acne", "湿疹", "痤疮", "a-b", "a_b", "../../etc", "x" * 300, ""]
    names = folder_names(classes)
    assert names["Acne"] == "acne"
    assert len(set(names.values())) == len(classes)
    assert all(Path(name).name == name and 0 < len(name) < 100 for name in names.values())
