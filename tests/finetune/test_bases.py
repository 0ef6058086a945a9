"""Every base of today, on tiny random components: taught, killed, resumed, exported and drawn, against diffusers alone."""

from __future__ import annotations

import sys
from functools import cache, partial
from itertools import chain
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from commands import on_two_devices
from diffusers import AutoPipelineForImage2Image, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusion_components import plain_pipeline
from lightning import Callback
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from tiny_bases.table import ROWS, TINY, save_tiny_base

from skinaug.errors import InputError
from skinaug.finetune.methods.full import Full
from skinaug.finetune.methods.lora import Lora
from skinaug.finetune.methods.textual_inversion import TextualInversion
from skinaug.finetune.stage import check_taught, known_of
from skinaug.finetune.text import text_digest
from skinaug.generate.families import check_pipeline
from skinaug.generate.predict import Renderer
from skinaug.generate.settings import Settings, check_folder
from skinaug.models import base_folder
from skinaug.models.base import load_pipeline
from skinaug.models.families.family import TWO_PREDICTIONS, guidance_of
from skinaug.models.families.table import denoiser, family_of
from skinaug.models.text_length import cut_off
from skinaug.models.weights import load

PROMPTS, SEEDS, STEPS = (
    ["a photo of acne", "a photo of nevus on the leg", "a photo of acne"],
    [0, 2**40, 7],
    3,
)
TAUGHT = [name for name, tiny in TINY.items() if tiny.taught]
EVERY = ["sdxl", "sd3", *TAUGHT]  # test_training.py teaches Stable Diffusion 2
LORA = Lora(rank=2, alpha=8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """A function that gives the folder of a base's tiny pipeline."""
    root = tmp_path_factory.mktemp("bases")
    return cache(lambda name: save_tiny_base(root / name, name))


def settings(name: str, **changes) -> Settings:
    tiny = ROWS[name]
    values = {"guidance_scale": tiny.guidance, "num_inference_steps": STEPS, "scheduler": tiny.scheduler}
    return Settings(**{**values, "image_size": tiny.size, **changes})


def plainly(name: str, pipeline: DiffusionPipeline, prompt: str, seed: int, **image) -> np.ndarray:
    """A picture by diffusers alone, float32 [S, S, 3]."""
    tiny = ROWS[name]
    size = {"height": tiny.size, "width": tiny.size, "num_inference_steps": STEPS, "output_type": "np"}
    generator = torch.Generator().manual_seed(seed)
    return pipeline(prompt=prompt, **size, **tiny.plain, **tiny.reading, **image, generator=generator).images[
        0
    ]


def parents(name: str) -> np.ndarray:
    """Pictures to start from, uint8 [3, S, S, 3]."""
    return np.random.default_rng(0).integers(0, 256, (3, ROWS[name].size, ROWS[name].size, 3), np.uint8)


def rendered(name: str, pipeline: DiffusionPipeline, **changes) -> np.ndarray:
    """Pictures as the stage generate draws them, float32 [3, S, S, 3]."""
    model = Renderer(pipeline, settings(name, **changes), max_redraws=0).eval()
    with torch.inference_mode():
        starts = zip(PROMPTS, parents(name), strict=True)
        return model.render([{"prompt": prompt, "start": start} for prompt, start in starts], SEEDS)


@pytest.mark.parametrize("name", TINY)
def test_a_folder_is_checked_by_its_names_and_json_alone(name: str, folders):
    base_folder.check_folder(folders(name))
    check_folder(settings(name), folders(name))
    check_pipeline(plain_pipeline(folders(name)), settings(name))
    with pytest.raises(InputError, match="no multiple of"):
        check_folder(settings(name, image_size=ROWS[name].size + 1), folders(name))
    other = "euler" if family_of(plain_pipeline(folders(name))).flow else "flow"
    with pytest.raises(InputError, match="does not suit"):
        check_folder(settings(name, scheduler=other), folders(name))


@pytest.mark.parametrize("name", TINY)
def test_steps_of_our_own_end_where_the_pipelines_do(name: str, folders):
    """From the same noise, with our text states, our call of the denoiser and our units of the autoencoder's latents."""
    pipeline = plain_pipeline(folders(name))
    family, tiny, decoded = family_of(pipeline), ROWS[name], []
    decode = pipeline.vae.decode
    with patch.object(pipeline.vae, "decode", lambda z, **options: decoded.append(z) or decode(z, **options)):
        size = {"height": tiny.size, "width": tiny.size, "num_inference_steps": STEPS}
        generator = torch.Generator().manual_seed(7)
        alone = family.guidance_arguments(1.0) | dict(tiny.reading)
        with patch("torch.randn", wraps=torch.randn) as drawn:
            pipeline(prompt=PROMPTS[0], **size, **alone, generator=generator)
    shape = drawn.call_args.args[0]
    x = tiny.latents(torch.randn(shape, generator=torch.Generator().manual_seed(7))).reshape(
        1, -1, *decoded[0].shape[-2:]
    )
    states = family.encode(pipeline, [PROMPTS[0]], torch.device("cpu"))
    scheduler, sizes = pipeline.scheduler, torch.full((1, 3), tiny.size)
    fresh = type(scheduler).from_config(scheduler.config)
    if not isinstance(fresh, FlowMatchEulerDiscreteScheduler):  # whose sigmas are the pipeline's
        fresh.set_timesteps(STEPS)
    with torch.no_grad():
        for number, timestep in enumerate(scheduler.timesteps):
            predicted = family.denoise(denoiser(pipeline), x, timestep.expand(1).float(), states, sizes)
            if isinstance(fresh, FlowMatchEulerDiscreteScheduler):
                x = x + (scheduler.sigmas[number + 1] - scheduler.sigmas[number]) * predicted
            else:
                x = fresh.step(predicted, timestep, x).prev_sample
        ended = family.normalise(pipeline.vae, decoded[0].reshape(x.shape))
    torch.testing.assert_close(x, ended, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_pictures_are_those_of_one_plain_call_each(name: str, folders):
    ours = rendered(name, load_pipeline(str(folders(name))))
    for picture, prompt, seed in zip(ours, PROMPTS, SEEDS, strict=True):
        np.testing.assert_allclose(
            picture, plainly(name, plain_pipeline(folders(name)), prompt, seed), atol=2e-3
        )
    assert np.abs(ours[0] - ours[2]).max() > 0.02, "equal prompts have noise of their own"


@pytest.mark.parametrize("name", TINY)
def test_pictures_that_start_from_others_are_those_of_one_plain_call_each(name: str, folders):
    asked = settings(name, mode="image", strength=0.7)
    pipeline = plain_pipeline(folders(name))
    if not family_of(pipeline).image_schedulers:
        with pytest.raises(InputError, match="no pipeline of diffusers starts from a picture"):
            check_folder(asked, folders(name))
        return
    ours = rendered(name, load_pipeline(str(folders(name))), mode="image", strength=0.7)
    plain = AutoPipelineForImage2Image.from_pipe(pipeline)
    plain.set_progress_bar_config(disable=True)
    for picture, prompt, seed, start in zip(ours, PROMPTS, SEEDS, parents(name), strict=True):
        image = {"image": Image.fromarray(start), "strength": 0.7}
        wanted = plainly(name, plain, prompt, seed, **image)
        np.testing.assert_allclose(picture, wanted, atol=2e-3)


@pytest.mark.parametrize("name", TINY)
def test_guidance_outside_of_the_interval_is_none(name: str, folders):
    pipeline = plain_pipeline(folders(name))
    if guidance_of(family_of(pipeline), pipeline) != TWO_PREDICTIONS:
        pytest.skip("is not guided by two predictions")
    nowhere = rendered(name, pipeline, guidance_interval=(0.0, 1e-9))
    np.testing.assert_allclose(
        nowhere, rendered(name, plain_pipeline(folders(name)), guidance_scale=1.0), atol=2e-3
    )
    assert np.abs(nowhere - rendered(name, plain_pipeline(folders(name)))).max() > 1e-4


def cheap(name: str, steps: int) -> dict:
    """Settings of a short training with four samples at its end."""
    size = {"image_size": ROWS[name].size, "batch_size": 3, "sample_prompts": ["a photo of red"]}
    return {**size, "steps": steps, "sample_every_num_steps": steps}


def add_plainly(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Give a pipeline what is in a LoRA's folder, by its own method or by peft's where it has none."""
    if hasattr(pipeline, "load_lora_weights"):
        pipeline.load_lora_weights(str(folder))
    else:
        PeftModel.from_pretrained(pipeline.transformer, folder)


def test_texts_are_cached_apart_where_they_are_read_to_another_length(folders):
    """dev and schnell have the same text encoders, and T5 reads half as much for schnell."""
    dev, schnell = (plain_pipeline(folders(name)) for name in ("flux1_dev", "flux1_schnell"))
    digest = text_digest(dev)
    for name in ("text_encoder", "text_encoder_2"):
        getattr(schnell, name).load_state_dict(getattr(dev, name).state_dict())
    assert text_digest(schnell) != digest
    schnell.transformer.register_to_config(guidance_embeds=True)
    assert text_digest(schnell) == digest


def another(name: str, folders) -> Path:
    """The folder of a base of another family."""
    family = {other: base_folder.read_index(folders(other))["_class_name"] for other in (name, *TAUGHT)}
    return folders(next(other for other in TAUGHT if family[other] != family[name]))


class FixedLoss(Callback):
    """Notes the loss of the first batch before and after training."""

    def on_train_start(self, trainer, module) -> None:
        self.before = self.loss(module)

    def on_train_end(self, trainer, module) -> None:
        self.after = self.loss(module)

    def loss(self, module) -> float:
        with torch.no_grad(), patch.object(module, "log"):
            return float(module.training_step(module.make_batch(0), 0))


@pytest.mark.parametrize("name", EVERY)
def test_a_lora_is_learned_and_read_by_diffusers_alone(name: str, folders, teach, tmp_path: Path):
    watch = FixedLoss()
    common = {"method": LORA, "optimizer": partial(torch.optim.AdamW, lr=0.02), **cheap(name, steps=6)}
    base = partial(plain_pipeline, folders(name))
    taught = base()
    teach(tmp_path / "whole", watch=watch, base=lambda: taught, **common)
    assert watch.after < watch.before
    with pytest.raises(RuntimeError, match="killed"):
        teach(tmp_path / "killed", stop_at=3, base=base, **common)
    assert not (tmp_path / "killed" / "labels.json").exists()
    teach(tmp_path / "killed", base=base, **common)
    weights, again = (load_file(next((tmp_path / out / "lora").iterdir())) for out in ("whole", "killed"))
    assert weights.keys() == again.keys()
    assert all(torch.equal(again[key], value) for key, value in weights.items())
    layers = family_of(taught).lora_layers
    assert all(any(f".{layer}." in key for key in weights) for layer in chain(*layers.values()))
    plain = base()
    before = plainly(name, plain, PROMPTS[0], 0)
    add_plainly(plain, tmp_path / "whole" / "lora")
    drawn = plainly(name, plain, PROMPTS[0], 0)
    assert np.abs(drawn - before).max() > 0.01
    pipeline, _ = load(partial(load_pipeline, str(folders(name))), tmp_path / "whole")
    np.testing.assert_allclose(rendered(name, pipeline)[0], drawn, atol=5e-3)
    with pytest.raises(InputError, match="does not fit this base model"):
        load(partial(load_pipeline, str(another(name, folders))), tmp_path / "whole")


@pytest.mark.parametrize("name", TAUGHT)
def test_a_whole_pipeline_is_learned_and_read_by_diffusers_alone(name: str, folders, teach, tmp_path: Path):
    taught = plain_pipeline(folders(name))
    optimizer = partial(torch.optim.AdamW, lr=0.005)
    teach(tmp_path / "out", Full(), base=lambda: taught, optimizer=optimizer, **cheap(name, steps=2))
    plain = plain_pipeline(tmp_path / "out" / "pipeline")
    drawn = plainly(name, plain, PROMPTS[0], 0)
    assert np.abs(drawn - plainly(name, plain_pipeline(folders(name)), PROMPTS[0], 0)).max() > 0.01
    pipeline, _ = load(lambda: pytest.fail("the base was loaded"), tmp_path / "out")
    np.testing.assert_allclose(rendered(name, pipeline)[0], drawn, atol=5e-3)


@pytest.mark.parametrize("name", TINY)
def test_what_a_base_does_not_take_is_refused_with_the_way_out(name: str, folders, teach, tmp_path: Path):
    pipeline = plain_pipeline(folders(name))
    family = family_of(pipeline)
    known, size = known_of(folders(name)), TINY[name].size
    check_taught("skinaug.finetune.methods.full.Full", size, *known)
    with pytest.raises(InputError, match=f"Set scale.image_size or finetune.image_size to {size}"):
        check_taught("skinaug.finetune.methods.full.Full", size + 1, *known)
    with pytest.raises(InputError, match=f"finetune={family.methods[0]}"):
        check_taught("skinaug.finetune.methods.textual_inversion.TextualInversion", size, *known)
    ways = {"lora": LORA, "full": Full(), "textual_inversion": TextualInversion(1, "skin")}
    for way in ways.keys() - set(family.methods):
        with pytest.raises(InputError, match=f"finetune={family.methods[0]}"):
            teach(tmp_path / way, ways[way], base=lambda: pipeline, image_size=ROWS[name].size)
    if not family.lora_encoders and "lora" in family.methods:
        with pytest.raises(InputError, match=r"text_encoder=true: diffusers reads no LoRA"):
            Lora(text_encoder=True).prepare(pipeline, ["a"], 0)
    assert cut_off(pipeline, [PROMPTS[0]]) == []
    assert cut_off(pipeline, ["a photo of skin " * 600])


RUN = """
import sys
from functools import partial
from pathlib import Path
import torch
from skinaug.finetune.finetune import Finetune
from skinaug.finetune.methods.lora import Lora
from skinaug.manifest import Manifest
from skinaug.models.base import load_pipeline
from skinaug.models.trainer import make_trainer
from skinaug.prompts import PromptSet
base, photographs, out, size, devices = sys.argv[1:]
out = Path(out)
out.mkdir(exist_ok=True)
Finetune(
    method=Lora(rank=2, alpha=8), captions=PromptSet("plain", ["a photo of {label}"]), image_size=int(size), steps=2, batch_size=4,
    optimizer=partial(torch.optim.SGD, lr=1e-4), warmup_steps=1, caption_dropout=0.2, flip=True, accumulate_grad_batches=1,
    sample_every_num_steps=100, checkpoint_every_minutes=9, seed=0, sample_prompts=["a photo of red"],
)(
    manifest=Manifest.read(Path(photographs)), prior_images=None, base=partial(load_pipeline, base), base_name="tiny",
    licence="none", trainer=partial(make_trainer, "cpu", int(devices), "32-true", enable_progress_bar=False),
    cache=out / "encoded", logger=False, out=out,
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_two_devices_learn_what_one_learns(
    name: str, folders, photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    photographs.write(tmp_path)
    given = [str(part) for part in (folders(name), tmp_path, tmp_path / "1", ROWS[name].size, 1)]
    monkeypatch.setattr(sys, "argv", ["-c", *given])
    exec(RUN, {})
    given[2:] = [str(tmp_path / "2"), given[3], "2"]
    on_two_devices(*given, code=RUN)
    one, two = (load_file(next((tmp_path / devices / "lora").iterdir())) for devices in ("1", "2"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-3 * value.abs().max().item())
    assert any(value.any() for key, value in one.items() if "lora_B" in key), "it learned"
