"""What is read and decoded in full precision, whatever a trainer computes in."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_bases.table import ROWS, STABLE_DIFFUSION, TINY

from skinaug.errors import InputError
from skinaug.finetune.module import DiffusionFinetuner, Objective
from skinaug.finetune.samples import SampleGrids
from skinaug.finetune.text import frozen_text
from skinaug.generate.predict import Renderer
from skinaug.generate.settings import Settings
from skinaug.models.families.family import stacked
from skinaug.models.trainer import make_trainer

CPU = torch.device("cpu")
TEXTS = ["a photo of acne", "a photo of nevus on the leg"]
in_half = partial(torch.autocast, "cpu", torch.float16)


def tiny(name: str) -> DiffusionPipeline:
    """A base's pipeline of random weights, as one that draws."""
    torch.manual_seed(0)
    pipeline = ROWS[name].make()
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return pipeline


def rows(texts: list[str]) -> list[dict]:
    return [{"prompt": text, "seed": seed} for seed, text in enumerate(texts)]


def settings(name: str) -> Settings:
    return Settings(ROWS[name].guidance, 2, ROWS[name].scheduler, ROWS[name].size)


@pytest.fixture
def overflowing() -> DiffusionPipeline:
    """PixArt with a T5 as the published one is: what its perceptrons add is more than float16 can say."""
    pipeline = tiny("pixart_sigma")
    for block in pipeline.text_encoder.encoder.block:
        block.layer[1].DenseReluDense.wo.weight.data *= 1e7
    return pipeline


def test_a_t5_that_overflows_in_float16_is_read_right(overflowing, tmp_path: Path):
    ids = overflowing.tokenizer(TEXTS[:1], return_tensors="pt", padding="max_length", max_length=300)
    with torch.no_grad():
        right = overflowing.text_encoder(**ids).last_hidden_state
        with in_half():
            assert not overflowing.text_encoder(**ids).last_hidden_state.isfinite().all()
    assert right.isfinite().all()
    renderer = Renderer(overflowing, settings("pixart_sigma"), max_redraws=0).eval()
    learner = DiffusionFinetuner(overflowing, [], None, None, Objective(), torch.optim.SGD, 1, 0, seed=0)
    with in_half(), torch.no_grad():
        renderer.render(rows(TEXTS[:1]), [0])
        told = [renderer.states[TEXTS[0]]["embeds"], learner.states(TEXTS[:1])["embeds"][0]]
        told.append(frozen_text(overflowing, [], CPU, tmp_path)(TEXTS[:1])["embeds"][0])
    for states in told:
        torch.testing.assert_close(states, right[0])


BASES = [*STABLE_DIFFUSION, *(name for name, tiny in TINY.items() if tiny.taught)]


@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "bf16-mixed") for name in BASES), ("qwenimage", "bf16-true")]
)
def test_drawing_is_told_the_bits_that_training_was(name: str, precision: str, tmp_path: Path):
    pipeline = tiny(name)
    asked = [*TEXTS, ""]
    taught = frozen_text(pipeline, [], CPU, tmp_path)
    taught.encode_all(asked)
    renderer = Renderer(pipeline, settings(name), rows(asked), batch_size=len(asked), max_redraws=0)
    make_trainer("cpu", 1, precision, enable_progress_bar=False).predict(renderer, return_predictions=False)
    wanted, drawn = taught(asked), stacked([renderer.states[text] for text in asked])
    assert all(value.dtype in (torch.float32, torch.bool, torch.int64) for value in wanted.values())
    assert wanted.keys() == drawn.keys()
    assert all(torch.equal(drawn[part], value) for part, value in wanted.items())


def test_text_encoders_that_are_broken_are_told(tmp_path: Path):
    pipeline = tiny("sd2")
    pipeline.text_encoder.get_input_embeddings().weight.data[:] = torch.nan
    with pytest.raises(InputError, match="not finite of 'a photo of acne'"):
        frozen_text(pipeline, [], CPU, tmp_path)(TEXTS[:1])
    assert not list(tmp_path.rglob("*.safetensors"))
    with pytest.raises(InputError, match="not finite"):
        Renderer(pipeline, settings("sd2"), max_redraws=0).render(rows(TEXTS[:1]), [0])


def test_sample_grids_spare_the_autoencoder_half_precision(tmp_path: Path):
    pipeline, seen = tiny("sdxl"), set()
    pipeline.vae.decoder.conv_in.register_forward_hook(lambda part, given, made: seen.add(made.dtype))
    learner = DiffusionFinetuner(pipeline, [], None, None, Objective(), torch.optim.SGD, 1, 0, seed=0)
    trainer = SimpleNamespace(
        global_step=1,
        is_global_zero=True,
        logger=None,
        precision_plugin=SimpleNamespace(forward_context=in_half),
    )
    SampleGrids(pipeline, TEXTS[:1], tmp_path, 16, 1, 0).draw(trainer, learner)
    assert seen == {torch.float32}
    assert (tmp_path / "step_000001.png").exists()
