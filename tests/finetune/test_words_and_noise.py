"""What SANA and PixArt are told and learn, against the pipelines' own calls: texts with masks, sizes, and levels of noise."""

from __future__ import annotations

import shutil
from functools import cache
from importlib import util
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusion_components import plain_pipeline
from tiny_bases.table import TINY, save_tiny_base

from skinaug.errors import InputError
from skinaug.finetune.cache import TextStates
from skinaug.finetune.schedule import NoiseSchedule
from skinaug.generate.families import check_pipeline, check_prompts
from skinaug.generate.predict import Renderer
from skinaug.generate.settings import Settings
from skinaug.models.base_folder import check_folder
from skinaug.models.families.table import denoiser, family_of

BASES = ("sana", "pixart_sigma", "pixart_alpha")
PROMPT = " A photo of Nevus on the leg"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory):
    """A function that loads a base's tiny pipeline, once."""
    root = tmp_path_factory.mktemp("words")
    return cache(lambda name: plain_pipeline(save_tiny_base(root / name, name)))


def call(name: str, pipeline: DiffusionPipeline, prompt: str = PROMPT, steps: int = 4, **options):
    """The pipeline's own call."""
    tiny = TINY[name]
    size = {"height": tiny.size, "width": tiny.size, "num_inference_steps": steps}
    generator = torch.Generator().manual_seed(0)
    return pipeline(prompt, **size, **tiny.reading, generator=generator, output_type="latent", **options)


@pytest.mark.parametrize("name", BASES)
def test_words_and_masks_are_what_the_pipelines_call_tells_its_denoiser(name: str, pipelines, tmp_path: Path):
    pipeline, seen = pipelines(name), {}
    watch = lambda part, args, told: seen.update(told)  # noqa: E731
    handle = denoiser(pipeline).register_forward_pre_hook(watch, with_kwargs=True)
    call(name, pipeline, steps=2, **TINY[name].plain)
    handle.remove()
    encode = lambda texts: family_of(pipeline).encode(pipeline, texts, CPU)  # noqa: E731
    with torch.no_grad():
        cached = TextStates(encode, "x", tmp_path)
        for states in (
            encode(["", PROMPT]),
            cached(["", PROMPT]),
            TextStates(encode, "x", tmp_path)(["", PROMPT]),
        ):
            torch.testing.assert_close(states["embeds"], seen["encoder_hidden_states"], rtol=1e-5, atol=1e-6)
            assert torch.equal(states["mask"], seen["encoder_attention_mask"])
    assert 0 < states["mask"][0].sum() < states["mask"][1].sum() < states["mask"].shape[1]


@pytest.mark.parametrize("name", BASES)
def test_the_longest_text_is_read_to_its_last_word(name: str, pipelines):
    pipeline = pipelines(name)
    family, (encoder, tokenizer) = family_of(pipeline), (pipeline.text_encoder, pipeline.tokenizer)
    spelled = family.spelled(pipeline, "text_encoder", "skin")
    count = family.limit(pipeline, "text_encoder") - len(tokenizer(spelled).input_ids)
    ends = ("acne", "nevus")
    whole, cut = ([["skin " * number + end] for end in ends] for number in (count, count + 1))
    check_prompts(pipeline, whole[0])
    with pytest.raises(InputError, match="longer than a text encoder"):
        check_prompts(pipeline, cut[0])
    with torch.no_grad():
        read = [[family.encode(pipeline, texts, CPU)["embeds"] for texts in pair] for pair in (whole, cut)]
    assert not torch.equal(*read[0])
    assert torch.equal(*read[1]), "the word after the last that is read changes nothing"
    assert encoder.training is False


@pytest.mark.parametrize("name", BASES)
def test_a_denoiser_that_knows_the_picture_draws_it(name: str, pipelines):
    """Told what training's levels say of the pipeline's timesteps, perfect predictions lead from noise to the picture."""
    pipeline = pipelines(name)
    tiny, network, schedule = TINY[name], denoiser(pipeline), NoiseSchedule.of(pipeline.scheduler)
    places = tiny.size // pipeline.vae_scale_factor
    picture = torch.randn(
        1, network.config.in_channels, places, places, generator=torch.Generator().manual_seed(1)
    )

    def knows(*args, **told):
        x, timestep = args[0], told["timestep"][0]
        level = (schedule.timesteps - timestep).abs().argmin()
        signal, noise = schedule.signal[level], schedule.noise[level]
        eps = (x - signal * picture) / noise
        predicted = eps - picture if schedule.prediction_type == "flow" else eps
        spare = network.config.out_channels // network.config.in_channels - 1
        return (torch.cat([predicted, *[torch.full_like(predicted, 9.0)] * spare], 1),)

    with patch.object(network, "forward", knows):
        drawn = call(name, pipeline, steps=20, guidance_scale=1.0).images
    torch.testing.assert_close(drawn, picture, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", BASES)
def test_noisy_latents_are_those_of_the_bases_own_scheduler(name: str, pipelines):
    scheduler = pipelines(name).scheduler
    schedule = NoiseSchedule.of(scheduler)
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(10)
    picture, noise = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for timestep in scheduler.timesteps:
        level = (schedule.timesteps - timestep).abs().argmin()
        ours = schedule.signal[level] * picture + schedule.noise[level] * noise
        theirs = scheduler.add_noise(picture, noise, timestep[None])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-3)  # flows are told whole timesteps


def test_alpha_is_told_how_small_a_photograph_was_and_sigma_is_not(pipelines):
    small, large, larger = (torch.tensor([[*size, 16]]) for size in ((9, 12), (16, 16), (4000, 3000)))
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for name, told in (("pixart_alpha", True), ("pixart_sigma", False)):
        pipeline = pipelines(name)
        family = family_of(pipeline)
        with torch.no_grad():
            states = family.encode(pipeline, [PROMPT], CPU)
            of = [
                family.denoise(denoiser(pipeline), noisy, torch.tensor([500]), states, sizes)
                for sizes in (small, large, larger)
            ]
        assert of[0].shape == noisy.shape
        assert torch.equal(of[1], of[2])
        assert torch.equal(of[0], of[1]) is not told


@pytest.mark.parametrize("name", BASES)
def test_a_start_from_a_picture_is_refused(name: str, pipelines):
    tiny = TINY[name]
    settings = Settings(2.0, 4, tiny.scheduler, tiny.size, mode="image", strength=0.5)
    with pytest.raises(InputError, match="no pipeline of diffusers starts from a picture"):
        check_pipeline(pipelines(name), settings)


def test_a_single_step_of_alpha_is_refused(pipelines):
    check_pipeline(pipelines("pixart_alpha"), Settings(2.0, 2, "dpmsolver++", 16))
    with pytest.raises(InputError, match=r"num_inference_steps=1.*at least 2"):
        check_pipeline(pipelines("pixart_alpha"), Settings(2.0, 1, "dpmsolver++", 16))


@pytest.mark.parametrize("scheduler", ["flow", "dpmsolver++", "unipc"])
def test_every_sampler_keeps_the_shift_of_sanas_flow(scheduler: str, pipelines):
    model = Renderer(pipelines("sana"), Settings(1.0, 8, scheduler, 32))
    model.pipeline.scheduler.set_timesteps(8)
    sigmas = model.pipeline.scheduler.sigmas
    middle = float(sigmas[len(sigmas) // 2])
    assert middle > 0.65, "half of the steps are spent above two thirds of the noise; without a shift at half"


def test_the_autoencoder_of_sana_is_spared_half_precision(pipelines):
    model, seen = Renderer(pipelines("sana"), Settings(2.0, 2, "flow", 32)), set()
    hook = lambda part, inputs, output: seen.add(output.dtype)  # noqa: E731
    handle = model.models["vae"].decoder.conv_in.register_forward_hook(hook)
    with torch.inference_mode(), torch.autocast("cpu", torch.float16):
        model.render([{"prompt": PROMPT}], [0])
    handle.remove()
    assert seen == {torch.float32}


def test_a_tokenizer_of_sentencepiece_wants_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = save_tiny_base(tmp_path / "base", "pixart_sigma")
    shutil.move(folder / "tokenizer" / "tokenizer.json", folder / "tokenizer" / "spiece.model")
    find = util.find_spec
    for there in (None, True):
        monkeypatch.setattr(
            util,
            "find_spec",
            lambda name, *rest, there=there: there if name == "sentencepiece" else find(name, *rest),
        )
        if there:
            check_folder(folder)
        else:
            with pytest.raises(InputError, match=r"tokenizer: only spiece\.model.*skinaug\[sentencepiece\]"):
                check_folder(folder)
