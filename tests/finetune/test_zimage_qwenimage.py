"""What Z-Image and Qwen-Image agree on with their pipelines, beyond what every base does: messages, masks, signs and directions."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, QwenImageImg2ImgPipeline, ZImagePipeline
from diffusion_components import plain_pipeline
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import load_file
from tiny_bases.table import TINY, save_tiny_base

from skinaug.errors import InputError
from skinaug.finetune import loss as losses
from skinaug.finetune.methods.full import Full
from skinaug.finetune.methods.lora import Lora
from skinaug.finetune.module import DiffusionFinetuner, Objective
from skinaug.finetune.schedule import NoiseSchedule
from skinaug.finetune.sharding import patient
from skinaug.finetune.text import frozen_text, text_digest
from skinaug.generate.families import check_scheduler
from skinaug.generate.predict import Renderer
from skinaug.generate.settings import Settings
from skinaug.models.base import check_base
from skinaug.models.base_folder import check_folder
from skinaug.models.families.table import FAMILIES, denoiser, family_of
from skinaug.models.text_length import cut_off
from skinaug.models.trainer import make_trainer
from skinaug.models.weights import digest

NAMES = ("zimage", "qwenimage")
CPU = torch.device("cpu")
TEXTS = ["a photo of acne on the leg", "", "acne", "a photo of acne on the leg"]
OWN = 512  # tokens that the pipelines' calls read, of which some close the message
CHEAP = {"steps": 2, "batch_size": 3, "sample_every_num_steps": 2, "sample_prompts": ["acne"]}
STARTS = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each base's tiny pipeline."""
    root = tmp_path_factory.mktemp("bases")
    return {name: save_tiny_base(root / name, name) for name in NAMES}


def states_alone(pipeline, text: str) -> torch.Tensor:
    """A text's states [L, W] as the pipeline's own method makes them of it alone."""
    if isinstance(pipeline, ZImagePipeline):
        return pipeline.encode_prompt(text, device=CPU, do_classifier_free_guidance=False)[0][0]
    embeds, mask = pipeline.encode_prompt(text, device=CPU)
    assert mask is None
    return embeds[0]


@pytest.mark.parametrize("name", NAMES)
def test_states_of_texts_of_different_length_are_those_of_each_alone(name: str, folders, tmp_path: Path):
    pipeline, given = plain_pipeline(folders[name]), list(TEXTS)
    with torch.no_grad():
        read = family_of(pipeline).encode(pipeline, given, CPU)
        alone = [states_alone(pipeline, text) for text in TEXTS]
    assert given == TEXTS, "the pipeline does not write into the texts"
    cached = frozen_text(pipeline, [], torch.device("cpu"), tmp_path)
    cached(TEXTS[2:3])
    for states in (read, cached(TEXTS), frozen_text(pipeline, [], torch.device("cpu"), tmp_path)(TEXTS)):
        assert states["mask"].dtype == torch.bool
        assert len({int(mask.sum()) for mask in states["mask"]}) == 3
        for embeds, mask, expected in zip(states["embeds"], states["mask"], alone, strict=True):
            torch.testing.assert_close(embeds[mask], expected, rtol=1e-4, atol=1e-5)
            assert mask[: len(expected)].all(), "words come first"
            assert not embeds[~mask].any()


def test_the_question_of_qwenimage_is_left_out_and_the_text_is_not(folders):
    pipeline = plain_pipeline(folders["qwenimage"])
    lengths = [int(mask.sum()) for mask in family_of(pipeline).encode(pipeline, ["", "acne"], CPU)["mask"]]
    closing = pipeline.tokenizer("<|im_end|>\n<|im_start|>assistant\n").input_ids
    assert lengths == [len(closing), len(closing) + 1]


@pytest.mark.parametrize("name", NAMES)
def test_the_longest_text_is_the_pipelines(name: str, folders):
    """A token more than what passes is a token that is not read."""
    pipeline = plain_pipeline(folders[name])
    family = family_of(pipeline)
    around = int(family.encode(pipeline, [""], CPU)["mask"].sum())
    longest = "acne" + " acne" * (OWN - around - 1)
    assert cut_off(pipeline, [longest]) == []
    assert len(cut_off(pipeline, [longest + " nevus"])) == 1
    with torch.no_grad():
        masks = family.encode(pipeline, [longest, longest + " nevus"], CPU)["mask"]
    assert masks.sum(1).tolist() == [OWN] * 2


@pytest.mark.parametrize("name", NAMES)
def test_what_fills_a_text_up_changes_no_prediction(name: str, folders):
    pipeline = plain_pipeline(folders[name])
    family = family_of(pipeline)
    noisy = torch.randn(len(TEXTS), 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps, sizes = torch.tensor([999.0, 10.0, 500.0, 500.0]), torch.full((len(TEXTS), 3), 16)
    with torch.no_grad():
        states = family.encode(pipeline, TEXTS, CPU)
        longer = {key: torch.cat([value, torch.zeros_like(value)], 1) for key, value in states.items()}
        together = family.denoise(denoiser(pipeline), noisy, timesteps, states, sizes)
        torch.testing.assert_close(
            family.denoise(denoiser(pipeline), noisy, timesteps, longer, sizes), together
        )
        for row in range(len(TEXTS)):
            one = {key: value[row : row + 1] for key, value in states.items()}
            alone = family.denoise(denoiser(pipeline), noisy[[row]], timesteps[[row]], one, sizes[[row]])
            torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)
    assert (together[2] - together[3]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_prediction_draws_the_picture_that_training_asks_for(name: str, folders):
    """A denoiser that always says the same: the picture for which that is right is where the pipeline's own steps end, and at every
    level the denoiser is told the time that training tells it."""
    pipeline = plain_pipeline(folders[name])
    family, schedule, told = family_of(pipeline), NoiseSchedule.of(pipeline.scheduler), []
    raw = {
        "zimage": torch.randn(1, 4, 1, 8, 8, generator=torch.Generator().manual_seed(1)),
        "qwenimage": torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1)),
    }[name]

    def says(*args, **others):
        told.append(float(args[1] if args else others["timestep"]))
        return (list(raw) if name == "zimage" else raw,)

    noise = torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(7))[0]
    with patch.object(denoiser(pipeline), "forward", says):
        drawn = pipeline(
            "acne",
            height=16,
            width=16,
            num_inference_steps=3,
            **family.guidance_arguments(1.0),
            generator=torch.Generator().manual_seed(7),
            output_type="latent",
        ).images
        times = told.copy()
        told.clear()
        states = family.encode(pipeline, ["acne"], CPU)
        for sigma in pipeline.scheduler.sigmas[:-1]:
            predicted = family.denoise(
                denoiser(pipeline), noise, (sigma * 1000)[None], states, torch.full((1, 3), 16)
            )
    if name == "qwenimage":
        drawn = pipeline._unpack_latents(drawn, 16, 16, pipeline.vae_scale_factor)[:, :, 0]
    picture = noise - predicted  # for which the prediction is what training asks for:
    one = torch.ones(1)
    for level in (0, 400, 999):
        signal, deviation = schedule.signal[level] * one, schedule.noise[level] * one
        target = losses.regression_target(picture, noise, signal, deviation, schedule.prediction_type)
        torch.testing.assert_close(target, predicted)
        assert schedule.timesteps[level] / 1000 == pytest.approx(float(schedule.noise[level]), abs=1e-6)
    torch.testing.assert_close(drawn, picture, rtol=1e-4, atol=1e-5)
    assert told == pytest.approx(times, abs=1e-6)
    shares = [family.share(time, 1000) for time in times]
    assert shares == pytest.approx(pipeline.scheduler.sigmas[:-1].tolist(), abs=1e-6)


def test_latents_of_qwenimage_are_in_the_units_of_its_pipeline(folders):
    pipeline = QwenImageImg2ImgPipeline(**plain_pipeline(folders["qwenimage"]).components)
    family = FAMILIES["QwenImagePipeline"]
    images = torch.from_numpy(STARTS).permute(0, 3, 1, 2) / 127.5 - 1
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    with torch.no_grad():
        theirs = pipeline._encode_vae_image(images[:, :, None], generators)[:, :, 0]
        mean, deviation = family.moments(pipeline.vae, images)
    normal = torch.cat(
        [torch.randn(1, *mean.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    )
    torch.testing.assert_close(family.normalise(pipeline.vae, mean + deviation * normal), theirs)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_from_a_parent_are_those_of_one_plain_call_each(name: str, folders):
    settings = Settings(2.5, 4, "flow", 16, mode="image", strength=0.5)
    model = Renderer(plain_pipeline(folders[name]), settings, max_redraws=0).eval()
    prompts, seeds = ["a photo of acne on the leg", "nevus"], [0, 7]
    with torch.inference_mode():
        ours = model.render(
            [{"prompt": prompt, "start": start} for prompt, start in zip(prompts, STARTS, strict=True)], seeds
        )
    plain = AutoPipelineForImage2Image.from_pipe(plain_pipeline(folders[name]))
    plain.set_progress_bar_config(disable=True)
    for picture, prompt, seed, start in zip(ours, prompts, seeds, STARTS, strict=True):
        expected = plain(
            prompt,
            image=torch.from_numpy(start).permute(2, 0, 1)[None] / 255,
            strength=0.5,
            height=16,
            width=16,
            num_inference_steps=4,
            **TINY[name].plain,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images[0]
        np.testing.assert_allclose(picture, expected, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_two_devices_share_a_batch_of_texts_of_different_length(name: str, folders):
    """The loss of a batch is the mean of its devices'."""
    pipeline = plain_pipeline(folders[name])
    batch = {
        "number": 0,
        "moments": torch.rand(4, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
        "captions": TEXTS,
        "sizes": torch.full((4, 3), 16),
        "weights": torch.full((4,), 0.25),
    }

    def loss(rank: int, devices: int) -> float:
        module = DiffusionFinetuner(pipeline, [], None, None, Objective(), torch.optim.SGD, 1, 0, seed=0)
        module._trainer = SimpleNamespace(global_rank=rank, world_size=devices)
        with patch.object(module, "log"), torch.no_grad():
            return float(module.training_step(batch, 0))

    assert np.mean([loss(0, 2), loss(1, 2)]) == pytest.approx(loss(0, 1), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_learns(name: str, folders, teach, tmp_path: Path):
    learned = partial(teach, method=Lora(rank=2), base=lambda: plain_pipeline(folders[name]), **CHEAP)
    learned(tmp_path / "out", optimizer=partial(torch.optim.AdamW, lr=0.02), precision="bf16-mixed")
    weights = load_file(next((tmp_path / "out" / "lora").iterdir()))
    assert all(weight.isfinite().all() for weight in weights.values())
    assert all(weight.any() for key, weight in weights.items() if ".to_v.lora_B." in key)


@pytest.mark.parametrize("name", NAMES)
def test_the_language_model_learns_where_everything_does(name: str, folders, teach, tmp_path: Path):
    taught = plain_pipeline(folders[name])
    before = {key: value.clone() for key, value in taught.text_encoder.named_parameters()}
    teach(tmp_path / "out", Full(text_encoder=True), base=lambda: taught, **CHEAP)
    changed = {
        key for key, value in taught.text_encoder.named_parameters() if not torch.equal(value, before[key])
    }
    assert any("layers.0.mlp" in key for key in changed)


def test_a_chat_template_is_part_of_what_draws(folders):
    pipeline = plain_pipeline(folders["zimage"])
    found = [(text_digest(pipeline), digest(pipeline))]
    pipeline.tokenizer.chat_template = pipeline.tokenizer.chat_template.replace("assistant", "painter")
    found.append((text_digest(pipeline), digest(pipeline)))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_pipelines_of_the_same_parts_that_edit_are_refused(folders, tmp_path: Path):
    index = json.loads((folders["qwenimage"] / "model_index.json").read_text())
    for name in ("QwenImageEditPipeline", "ZImageOmniPipeline"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text(json.dumps(index | {"_class_name": name}))
        with pytest.raises(InputError, match=rf"it is a {name}\. Those that can be used: .*ZImagePipeline"):
            check_folder(tmp_path / name)
        with pytest.raises(InputError, match=name):
            check_base(str(tmp_path / name), ())


def test_a_tokenizer_that_cannot_write_a_chat_is_refused_before_anything_is_loaded(folders, tmp_path: Path):
    folder = shutil.copytree(folders["zimage"], tmp_path / "base")
    template = folder / "tokenizer" / "chat_template.jinja"
    told = template.read_text()
    template.unlink()
    with pytest.raises(InputError, match=r"no template of chats.*ZImagePipeline"):
        check_folder(folder)
    config = folder / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": told}))
    check_folder(folder)


def test_one_step_of_qwenimage_is_refused(folders):
    """Its schedule, which does not end at noise 0, has no number for it."""
    check_scheduler(folders["qwenimage"], Settings(2.5, 2, "flow", 16))
    with pytest.raises(InputError, match="with 1 steps: some of its noise levels are no finite numbers"):
        check_scheduler(folders["qwenimage"], Settings(2.5, 1, "flow", 16))


@pytest.mark.parametrize("name", NAMES)
def test_devices_are_told_of_weights_that_reach_no_prediction(name: str, folders):
    pipeline = plain_pipeline(folders[name])
    network, family = denoiser(pipeline), family_of(pipeline)
    states = family.encode(pipeline, ["acne"], CPU)
    noisy, sizes = torch.zeros(1, 4, 8, 8), torch.full((1, 3), 16)
    family.denoise(network, noisy, torch.ones(1), states, sizes).sum().backward()
    assert family.unread == any(weight.grad is None for weight in network.parameters())
    assert patient(make_trainer("cpu", 1).strategy) == {}
    assert isinstance(patient(make_trainer("cpu", 2, strategy="ddp").strategy)["strategy"], DDPStrategy)
