"""Pictures against diffusers alone, and the guards around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)

from skinaug.errors import InputError
from skinaug.generate.plan import SCHEDULERS, Settings
from skinaug.generate.predict import (
    Renderer,
    build_scheduler,
    check_prompts,
    check_size,
    is_blank,
    next_seed,
    to_uint8,
)

PROMPTS = ["a photo of acne", "a photo of nevus on the leg", "a photo of acne"]
SEEDS = [0, 2**53 - 1, 7]
PLAIN = {
    "ddim": DDIMScheduler,
    "dpmsolver++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "euler": EulerDiscreteScheduler,
}


def load(tiny: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def renderer(tiny: Path, scheduler: str = "dpmsolver++", guidance_scale: float = 2.5) -> Renderer:
    pipeline = load(tiny)
    pipeline.scheduler = build_scheduler(scheduler, pipeline)
    return Renderer(pipeline, Settings(guidance_scale, 4, scheduler, 16)).eval()


def rows(prompts: list[str], seeds: list[int]) -> list[dict]:
    return [{"prompt": prompt, "seed": seed} for prompt, seed in zip(prompts, seeds, strict=True)]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_equal_to_one_plain_call_an_image(tiny: Path, scheduler: str, guidance_scale: float):
    plain = load(tiny)
    plain.scheduler = PLAIN[scheduler].from_config(plain.scheduler.config)
    with torch.inference_mode():
        ours, redraws = renderer(tiny, scheduler, guidance_scale).predict_step(rows(PROMPTS, SEEDS), 0)
    for picture, prompt, seed in zip(ours, PROMPTS, SEEDS, strict=True):
        generator = torch.Generator().manual_seed(seed)
        wanted = plain(
            prompt, 16, 16, num_inference_steps=4, guidance_scale=guidance_scale, generator=generator
        ).images[0]
        assert np.abs(picture.astype(int) - np.asarray(wanted).astype(int)).max() <= 1
    assert ours.dtype == np.uint8
    assert not redraws.any()
    assert np.abs(ours[0].astype(int) - ours[2].astype(int)).max() > 5, (
        "equal prompts have noise of their own"
    )


@pytest.mark.parametrize(
    ("prediction_type", "zero_snr"), [("epsilon", False), ("v_prediction", False), ("v_prediction", True)]
)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_sampler_keeps_the_bases_noise_schedule(
    tiny: Path, scheduler: str, prediction_type: str, zero_snr: bool
):
    schedule = {
        "beta_end": 0.011,
        "prediction_type": prediction_type,
        "rescale_betas_zero_snr": zero_snr,
        "timestep_spacing": "trailing",
    }
    model = renderer(tiny)
    base = DDIMScheduler.from_config(model.pipeline.scheduler.config, **schedule)
    model.pipeline.scheduler = base
    model.pipeline.scheduler = built = build_scheduler(scheduler, model.pipeline)
    assert isinstance(built, PLAIN[scheduler])
    assert {name: built.config[name] for name in schedule} == schedule
    assert torch.allclose(built.betas, base.betas)
    with torch.inference_mode():
        assert np.isfinite(model.render(PROMPTS, SEEDS)).all()


def test_each_prompt_is_encoded_once(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    model = renderer(tiny)
    encoded = []
    encode = model.pipeline.encode_prompt
    monkeypatch.setattr(
        model.pipeline,
        "encode_prompt",
        lambda new, *a, **k: encoded.extend(new or []) or encode(new, *a, **k),
    )
    with torch.inference_mode():
        for prompts in (["acne"] * 3, ["acne", "nevus"], ["nevus"] * 2):
            model.render(prompts, range(len(prompts)))
    assert sorted(encoded) == ["", "acne", "nevus"]


def test_autocast_keeps_the_samplers_state_in_float32(tiny: Path):
    model = renderer(tiny)
    seen = set()
    model.models["vae"].post_quant_conv.register_forward_pre_hook(
        lambda part, inputs: seen.add(inputs[0].dtype)
    )
    with torch.inference_mode():
        exact = model.render(PROMPTS, SEEDS)
        assert seen == {torch.float32}
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.render(PROMPTS, SEEDS)
    assert seen == {torch.float32}
    assert 0 < np.abs(exact - rounded).mean() < 0.01


def test_half_precision_weights_run(tiny: Path):
    model = renderer(tiny).to(torch.bfloat16)
    with torch.inference_mode():
        assert np.isfinite(model.render(PROMPTS, SEEDS)).all()


def test_bad_pictures_are_drawn_again_and_counted(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    model = renderer(tiny)
    noise = np.random.default_rng(0).random((3, 16, 16, 3)).astype(np.float32)
    good = {next_seed(1, 2): noise[1], 0: noise[0]}  # seed 1 comes right at its second redraw, seed 2 never
    monkeypatch.setattr(
        model,
        "render",
        lambda prompts, seeds: np.stack([good.get(s, np.full((16, 16, 3), np.nan)) for s in seeds]),
    )
    pictures, redraws = model.predict_step(rows(["a"] * 3, [0, 1, 2]), 0)
    assert redraws.tolist() == [0, 2, 3]
    assert np.array_equal(pictures[:2], to_uint8(noise[:2]))
    assert pictures[2].max() == 0


def test_what_is_blank():
    skin = np.full((8, 8, 3), (0.8, 0.6, 0.5))
    spot = skin.copy()
    spot[2:4, 2:4, 0] = 0.7
    assert is_blank(skin)
    assert is_blank(np.zeros((8, 8, 3)))
    assert is_blank(np.where(spot == 0.7, np.nan, spot))
    assert not is_blank(spot)


def test_one_fixed_scale_for_every_picture():
    ramp = np.linspace(0.4, 0.6, 48).reshape(1, 4, 4, 3)
    assert np.array_equal(to_uint8(ramp), np.round(ramp * 255)), "a picture of low contrast keeps it"


def test_sizes_that_the_base_cannot_make(tiny: Path):
    check_size(load(tiny), 24)
    with pytest.raises(InputError, match="Try 24"):
        check_size(load(tiny), 21)


def test_prompts_that_would_be_cut(tiny: Path):
    pipeline = load(tiny)
    check_prompts(pipeline, ["skin " * 75])
    with pytest.raises(InputError, match=r"(?s)1 prompts are longer.*would lose 'nevus'"):
        check_prompts(pipeline, ["skin", "skin " * 75 + "nevus"])
