"""Pictures against diffusers alone, in every family and mode, and the redraws around them."""

from __future__ import annotations

from functools import cache, wraps
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusion_components import FAMILIES, plain_pipeline, save_tiny
from PIL import Image

from skinaug.errors import InputError
from skinaug.generate.families import build_scheduler, check_pipeline, check_prompts, start_strength
from skinaug.generate.plan import next_seed
from skinaug.generate.predict import Renderer, to_uint8
from skinaug.generate.settings import Settings
from skinaug.models.families.family import NOISE_SCHEDULERS
from skinaug.models.families.table import denoiser

PROMPTS = ["a photo of acne", "a photo of nevus on the leg", "a photo of acne"]
SEEDS = [0, 2**53 - 1, 7]
STEPS, GUIDANCE, SIZE = 4, 2.5, 16
PLAIN = {
    "ddim": DDIMScheduler,
    "dpmsolver++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "flow": FlowMatchEulerDiscreteScheduler,
}
USUAL = {"sd1": "dpmsolver++", "sd2": "dpmsolver++", "sdxl": "euler", "sd3": "flow"}
STARTS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """A function that gives the folder of a family's tiny pipeline."""
    root = tmp_path_factory.mktemp("families")
    return cache(lambda family: save_tiny(root / family, family))


def renderer(folder: Path, scheduler: str = "dpmsolver++", **changes) -> Renderer:
    values = {"guidance_scale": GUIDANCE, "num_inference_steps": STEPS, "image_size": SIZE, **changes}
    return Renderer(plain_pipeline(folder), Settings(scheduler=scheduler, **values), max_redraws=0).eval()


def rows(prompts: list[str] = PROMPTS, seeds: list[int] = SEEDS) -> list[dict]:
    given = zip(prompts, seeds, STARTS, strict=False)
    return [{"prompt": prompt, "seed": seed, "start": start} for prompt, seed, start in given]


def drawn(model: Renderer) -> np.ndarray:
    with torch.inference_mode():
        return model.predict_step(rows(), 0).pictures.astype(int)


def wanted(folder: Path, scheduler: str, guidance_scale: float = GUIDANCE, **image) -> list[np.ndarray]:
    """Each picture by one plain call of diffusers."""
    pipeline = plain_pipeline(folder)
    if scheduler in NOISE_SCHEDULERS:
        pipeline.scheduler = PLAIN[scheduler].from_config(pipeline.scheduler.config)
    size = {"height": SIZE, "width": SIZE}
    if image:
        pipeline = AutoPipelineForImage2Image.from_pipe(pipeline)
        pipeline.set_progress_bar_config(disable=True)
        size = size if "transformer" in pipeline.components else {}
    pictures = []
    for prompt, seed, start in zip(PROMPTS, SEEDS, STARTS, strict=True):
        call = {"num_inference_steps": STEPS, "guidance_scale": guidance_scale} | image | size
        if image:
            call["image"] = Image.fromarray(start)
        generator = torch.Generator().manual_seed(seed)
        pictures.append(np.asarray(pipeline(prompt, generator=generator, **call).images[0]).astype(int))
    return pictures


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_one_plain_call_an_image(folders, family: str):
    ours = drawn(renderer(folders(family), USUAL[family]))
    for picture, plain in zip(ours, wanted(folders(family), USUAL[family]), strict=True):
        assert np.abs(picture - plain).max() <= 1
    assert np.abs(ours[0] - ours[2]).max() > 5, "equal prompts have noise of their own"


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_one_plain_call_an_image_from_its_parent(folders, family: str):
    ours = drawn(renderer(folders(family), USUAL[family], mode="image", strength=0.5))
    for picture, plain in zip(ours, wanted(folders(family), USUAL[family], strength=0.5), strict=True):
        assert np.abs(picture - plain).max() <= 1


@pytest.mark.parametrize("scheduler", NOISE_SCHEDULERS)
@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_every_scheduler_is_diffusers_own(folders, scheduler: str, guidance_scale: float):
    ours = drawn(renderer(folders("sd2"), scheduler, guidance_scale=guidance_scale))
    for picture, plain in zip(ours, wanted(folders("sd2"), scheduler, guidance_scale), strict=True):
        assert np.abs(picture - plain).max() <= 1


@pytest.mark.parametrize(
    ("prediction_type", "zero_snr"), [("epsilon", False), ("v_prediction", False), ("v_prediction", True)]
)
@pytest.mark.parametrize("scheduler", NOISE_SCHEDULERS)
def test_a_sampler_keeps_the_bases_noise_schedule(
    folders, scheduler: str, prediction_type: str, zero_snr: bool
):
    schedule = {
        "beta_end": 0.011,
        "prediction_type": prediction_type,
        "rescale_betas_zero_snr": zero_snr,
        "timestep_spacing": "trailing",
    }
    model = renderer(folders("sd2"))
    base = DDIMScheduler.from_config(model.pipeline.scheduler.config, **schedule)
    model.pipeline.scheduler = base
    model.pipeline.scheduler = built = build_scheduler(scheduler, model.pipeline)
    assert isinstance(built, PLAIN[scheduler])
    assert {name: built.config[name] for name in schedule} == schedule
    assert torch.allclose(built.betas, base.betas)
    with torch.inference_mode():
        assert np.isfinite(model.render(rows(), SEEDS)).all()


@pytest.mark.parametrize(("scheduler", "error"), [("flow", 0.11), ("dpmsolver++", 0.05), ("unipc", 0.05)])
def test_flow_samplers_follow_the_exact_flow(folders, scheduler: str, error: float):
    """Of data N(m, s^2) the velocity is known in closed form, and carries the noise x to m + s x."""
    mean, deviation = 0.7, 0.3
    sampler = build_scheduler(scheduler, plain_pipeline(folders("sd3")))
    sampler.set_timesteps(24)
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
    x = start.clone()
    for timestep in sampler.timesteps:
        sigma = float(timestep) / 1000
        variance = (1 - sigma) ** 2 * deviation**2 + sigma**2
        residual = (x - (1 - sigma) * mean) / variance
        velocity = sigma * residual - mean - (1 - sigma) * deviation**2 * residual
        x = sampler.step(velocity, timestep, x, return_dict=False)[0]
    assert (x - (mean + deviation * start)).abs().max() < error


def latents(vae: torch.nn.Module) -> torch.Tensor:
    """The means that the parents are encoded as."""
    return vae.encode(torch.from_numpy(STARTS).permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean


def make_sane(vae: torch.nn.Module) -> None:
    """Give a random autoencoder what a trained one has: next to no variance, and latents of unit scale."""
    layer = vae.quant_conv or vae.encoder.conv_out  # of means and log variances
    half = len(layer.bias) // 2
    layer.weight.data[half:] = 0
    layer.bias.data[half:] = -20
    vae.register_to_config(scaling_factor=1 / float(latents(vae).std()))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_strength_is_how_far_a_picture_departs_from_its_parent(folders, family: str):
    departures = []
    for strength in (1e-3, 0.5, 1.0):
        model = renderer(
            folders(family), USUAL[family], mode="image", strength=strength, num_inference_steps=20
        )
        vae = model.models["vae"]
        with torch.inference_mode():
            make_sane(vae)
            parents = (vae.decode(latents(vae)).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
            departures.append(float(np.abs(model.render(rows(), SEEDS) - parents).mean()))
    assert departures[0] < 0.5 * departures[1], (
        "the least strength gives the parent as the autoencoder sees it"
    )
    assert departures[1] < departures[2]


def test_a_small_strength_makes_one_step():
    few = Settings(2.5, 12, "ddim", 64, mode="image", strength=0.01)
    assert int(12 * start_strength(few, flow=False)) == 1
    assert start_strength(few, flow=True) == 0.01
    assert start_strength(Settings(2.5, 1, "ddim", 64, mode="image", strength=0.01), flow=False) == 1.0
    assert start_strength(Settings(2.5, 12, "ddim", 64, mode="image", strength=0.5), flow=False) == 0.5


def count_rows(model: Renderer) -> list[int]:
    """How many rows each call of the denoiser gets."""
    seen: list[int] = []
    forward = model.denoise

    def counted(*args, **others):
        seen.append(len(args[0] if args else others["hidden_states"]))
        return forward(*args, **others)

    model.denoise = counted
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_outside_of_the_interval_is_none(folders, family: str):
    nowhere = renderer(folders(family), USUAL[family], guidance_interval=(0.0, 1e-9))
    seen = count_rows(nowhere)
    assert (
        np.abs(drawn(nowhere) - drawn(renderer(folders(family), USUAL[family], guidance_scale=1.0))).max()
        <= 1
    )
    assert seen == [3] * STEPS


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_inside_of_the_interval_only(folders, family: str):
    model = renderer(folders(family), USUAL[family], guidance_interval=(0.3, 0.8))
    seen = count_rows(model)
    with torch.inference_mode():
        pictures = model.render(rows(), SEEDS)
    timesteps = model.pipeline.scheduler.timesteps / 1000
    assert seen == [6 if 0.3 <= t <= 0.8 else 3 for t in timesteps]
    assert set(seen) == {3, 6}
    with torch.inference_mode():
        everywhere = renderer(folders(family), USUAL[family]).render(rows(), SEEDS)
    assert np.abs(pictures - everywhere).max() > 1e-4
    assert denoiser(model.pipeline).forward.__func__ is type(denoiser(model.pipeline)).forward, "restored"


@pytest.mark.parametrize("family", ["sd2", "sdxl", "sd3"])
def test_each_prompt_is_encoded_once(folders, family: str, monkeypatch: pytest.MonkeyPatch):
    model = renderer(folders(family), USUAL[family])
    encoded = []
    encode = model.pipeline.encode_prompt

    @wraps(encode)
    def spy(*args, **given):
        encoded.extend(given.get("prompt") or [])
        return encode(*args, **given)

    monkeypatch.setattr(model.pipeline, "encode_prompt", spy)
    with torch.inference_mode():
        for prompts in (["acne"] * 3, ["acne", "nevus"], ["nevus"] * 2):
            model.render(rows(prompts), range(len(prompts)))
    assert sorted(encoded) == ["", "acne", "nevus"]


def test_autocast_keeps_the_samplers_state_in_float32(folders):
    model = renderer(folders("sd2"))
    seen = set()
    model.models["vae"].post_quant_conv.register_forward_pre_hook(
        lambda part, inputs: seen.add(inputs[0].dtype)
    )
    with torch.inference_mode():
        exact = model.render(rows(), SEEDS)
        assert seen == {torch.float32}
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.render(rows(), SEEDS)
    assert seen == {torch.float32}
    assert 0 < np.abs(exact - rounded).mean() < 0.01


def test_the_autoencoder_is_spared_half_precision(folders):
    model = renderer(folders("sdxl"))
    seen = set()
    hook = lambda part, inputs, output: seen.add(output.dtype)  # noqa: E731
    model.models["vae"].decoder.conv_in.register_forward_hook(hook)
    with torch.inference_mode(), torch.autocast("cpu", torch.float16):
        assert np.isfinite(model.render(rows(), SEEDS)).all()
    assert seen == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_weights_run(folders, family: str):
    model = renderer(folders(family), USUAL[family]).to(torch.bfloat16)
    with torch.inference_mode():
        assert np.isfinite(model.render(rows(), SEEDS)).all()


@pytest.mark.slow
def test_compiled_pictures_are_the_same(folders):
    plain, compiled = (renderer(folders("sd2")) for _ in range(2))
    compiled.compile_denoiser = True
    compiled.on_predict_start()
    assert np.abs(drawn(plain) - drawn(compiled)).max() <= 2


def test_flawed_pictures_are_drawn_again_and_told(folders, monkeypatch: pytest.MonkeyPatch):
    model = renderer(folders("sd2"))
    model.max_redraws = 3
    skin = np.array((0.8, 0.6, 0.5)) * np.random.default_rng(0).uniform(0.7, 1, (3, 16, 16, 1))
    good = {next_seed(1, 2): skin[1], 0: skin[0]}  # seed 1 comes right at its second redraw, seed 2 never
    nothing = np.full((16, 16, 3), np.nan)
    monkeypatch.setattr(model, "render", lambda rows, seeds: np.stack([good.get(s, nothing) for s in seeds]))
    result = model.predict_step(rows(["a"] * 3, [0, 1, 2]), 0)
    assert result.redraws == [0, 2, 3]
    assert result.flaws == [None, None, "nan"]
    assert np.array_equal(result.pictures[:2], to_uint8(skin[:2]))
    assert result.pictures[2].max() == 0


def test_one_fixed_scale_for_every_picture():
    ramp = np.linspace(0.4, 0.6, 48).reshape(1, 4, 4, 3)
    assert np.array_equal(to_uint8(ramp), np.round(ramp * 255)), "a picture of low contrast keeps it"


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_that_the_base_cannot_make(folders, family: str):
    pipeline = plain_pipeline(folders(family))
    check_pipeline(pipeline, Settings(GUIDANCE, STEPS, USUAL[family], 24))
    with pytest.raises(InputError, match="Try 24"):
        check_pipeline(pipeline, Settings(GUIDANCE, STEPS, USUAL[family], 21))
    other = "flow" if family != "sd3" else "ddim"
    with pytest.raises(InputError, match="does not suit"):
        check_pipeline(pipeline, Settings(GUIDANCE, STEPS, other, 24))


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_that_would_be_cut(folders, family: str):
    pipeline = plain_pipeline(folders(family))
    check_prompts(pipeline, ["skin " * 75])
    with pytest.raises(InputError, match=r"(?s)longer than a text encoder.*would lose 'nevus"):
        check_prompts(pipeline, ["skin", "skin " * 75 + "nevus"])


def test_the_shortest_reader_decides(folders):
    pipeline = plain_pipeline(folders("sdxl"))
    pipeline.tokenizer_2.model_max_length = 10
    with pytest.raises(InputError, match=r"would lose 'nevus.*11 tokens of 10"):
        check_prompts(pipeline, ["skin " * 8 + "nevus"])
