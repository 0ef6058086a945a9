"""Every method on every family: trains a few steps, is saved, and plain diffusers reads it and draws with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusion_components import made_whole, plain_pipeline, save_tiny
from safetensors.torch import load_file

from skinaug.errors import InputError
from skinaug.finetune import loss as losses
from skinaug.finetune.methods.full import Full
from skinaug.finetune.methods.lora import Lora
from skinaug.finetune.methods.textual_inversion import TextualInversion
from skinaug.finetune.schedule import NoiseSchedule
from skinaug.models.families.sdxl import time_ids
from skinaug.models.families.table import denoiser, family_of

FAMILIES = ("sd1", "sd2", "sdxl", "sd3")
METHODS = {
    "textual_inversion": TextualInversion(2, "skin"),
    "lora": Lora(rank=2, alpha=8),
    "lora_text": Lora(rank=2, alpha=8, text_encoder=True),
    "dora": Lora(rank=2, alpha=8, options={"use_dora": True}),
    "dora_text": Lora(rank=2, alpha=8, text_encoder=True, options={"use_dora": True}),
    "full": Full(),
    "full_text": Full(text_encoder=True),
}
PAIRS = [(m, f) for m in METHODS for f in FAMILIES if (m, f) != ("textual_inversion", "sd3")]


@pytest.fixture(scope="session")
def tiny_bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family's tiny random pipeline."""
    folder = tmp_path_factory.mktemp("families")
    return {family: save_tiny(folder / family, family) for family in FAMILIES}


def draw(pipeline: DiffusionPipeline, prompt: str) -> np.ndarray:
    size = {"height": 16, "width": 16, "num_inference_steps": 3}
    generator = torch.Generator().manual_seed(7)
    return pipeline(prompt, **size, guidance_scale=2.0, generator=generator, output_type="np").images[0]


def read_back(base: Path, out: Path) -> DiffusionPipeline:
    """What was taught, loaded by diffusers alone."""
    whole = (out / "pipeline").is_dir()
    pipeline = plain_pipeline(out / "pipeline" if whole else base)
    for path in sorted((out / "textual_inversion").glob("*.safetensors")):
        rows = load_file(path)
        if "clip_g" in rows:
            for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
                parts = {name: getattr(pipeline, name + suffix) for name in ("text_encoder", "tokenizer")}
                pipeline.load_textual_inversion(rows[key], token=f"<{path.stem}>", **parts)
        else:
            pipeline.load_textual_inversion(str(path), use_safetensors=True)
    if (out / "lora").is_dir():
        pipeline.load_lora_weights(str(out / "lora"), use_safetensors=True)
    return pipeline


@pytest.mark.parametrize(("method", "family"), PAIRS)
def test_plain_diffusers_reads_what_was_taught(method: str, family: str, teach, tiny_bases, tmp_path: Path):
    taught, out = plain_pipeline(tiny_bases[family]), tmp_path / "out"
    settings = {"method": METHODS[method], "base": lambda: taught, "steps": 2}
    teach(out, **settings, optimizer=partial(torch.optim.AdamW, lr=0.02))
    made_whole(taught, tiny_bases[family]).to(torch.float32)
    prompt = "a photo of <red>" if method == "textual_inversion" else "a photo of red"
    ours = draw(taught, prompt)
    np.testing.assert_allclose(draw(read_back(tiny_bases[family], out), prompt), ours, atol=5e-3)
    untaught = draw(plain_pipeline(tiny_bases[family]), "a photo of red")
    assert np.abs(untaught - ours).max() > 0.01, "something was learned"


def test_textual_inversion_of_sd3_is_refused_with_the_way_out(teach, tiny_bases, tmp_path: Path):
    pipeline = plain_pipeline(tiny_bases["sd3"])
    with pytest.raises(InputError, match="finetune=lora"):
        teach(tmp_path / "out", METHODS["textual_inversion"], base=lambda: pipeline)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_and_denoiser_agree_with_the_pipelines_own_call(family: str, tiny_bases):
    """One step of the pipeline from known noise ends where our own call of encoder and denoiser ends."""
    pipeline = plain_pipeline(tiny_bases[family])
    device, texts = torch.device("cpu"), ["a photo of red", "", "a photo of red"]
    with torch.no_grad():
        states = family_of(pipeline).encode(pipeline, texts, device)
        assert torch.equal(states["embeds"][0], states["embeds"][2])
        network, seen = denoiser(pipeline), {}

        def watch(module, args, kwargs, output):
            seen.update(kwargs, output=output[0], args=args)

        handle = network.register_forward_hook(watch, with_kwargs=True)
        pipeline(
            "a photo of red",
            height=16,
            width=16,
            num_inference_steps=1,
            guidance_scale=2.0,
            output_type="latent",
        )
        handle.remove()
        noisy = seen["args"][0] if seen["args"] else seen["hidden_states"]
        timestep = seen["args"][1] if len(seen["args"]) > 1 else seen["timestep"]
        sizes = torch.tensor([[16, 16, 16]] * 2)
        both = {
            name: value[[1, 0]] for name, value in states.items()
        }  # the pipeline puts the empty text first
        ours = family_of(pipeline).denoise(network, noisy, timestep.expand(2).float(), both, sizes)
    torch.testing.assert_close(ours, seen["output"], rtol=1e-4, atol=1e-5)


def test_sdxl_is_told_the_size_of_small_photographs_only():
    sizes = torch.tensor([[450, 600, 512], [3000, 4000, 512]])
    assert time_ids(sizes).tolist() == [[450, 512, 0, 0, 512, 512], [512, 512, 0, 0, 512, 512]]


def test_noise_schedules_are_those_of_diffusers():
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0, 400, 999])
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    schedule = NoiseSchedule.of(scheduler)
    mixed = losses.add_noise(latents, noise, schedule.signal[levels], schedule.noise[levels])
    torch.testing.assert_close(mixed, scheduler.add_noise(latents, noise, levels))
    flow = FlowMatchEulerDiscreteScheduler(shift=3.0)
    schedule = NoiseSchedule.of(flow)
    mixed = losses.add_noise(latents, noise, schedule.signal[levels], schedule.noise[levels])
    torch.testing.assert_close(mixed, flow.scale_noise(latents, flow.timesteps[levels], noise))
    assert schedule.prediction_type == "flow"


def test_bases_that_predict_pictures_are_refused():
    with pytest.raises(InputError, match="sample"):
        NoiseSchedule.of(DDPMScheduler(prediction_type="sample"))
