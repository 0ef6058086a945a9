"""A base model from nothing: complete, small, read by plain diffusers, and the same after an interruption."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch
from diffusers import StableDiffusionPipeline
from lightning import Callback
from PIL import Image

from skinaug.errors import InputError
from skinaug.finetune.components import new_text_encoder
from skinaug.finetune.finetune import Finetune
from skinaug.finetune.methods.full import Full
from skinaug.finetune.module import Objective
from skinaug.finetune.pretrain import AutoencoderTraining, Sizes, pretrain
from skinaug.finetune.text_start import TextTraining, tell_captions_apart
from skinaug.finetune.tokenizer import WORDS, train_tokenizer
from skinaug.manifest import Manifest
from skinaug.models.trainer import make_trainer
from skinaug.prompts import PromptSet

CAPTIONS = PromptSet("plain", ["a photo of a {label} spot", "{label} spots on skin"])
ADAM = partial(torch.optim.AdamW, lr=1e-3)


class StopAt(Callback):
    """Ends a training of the UNet as a kill would."""

    def on_train_batch_start(self, trainer, module, *_) -> None:
        if hasattr(module, "denoiser") and trainer.global_step == 2:
            raise RuntimeError("killed")


def run(
    manifest: Manifest,
    out: Path,
    killed: bool = False,
    precision: str = "32-true",
    lesion_weight: float = 0.0,
    **changes,
) -> None:
    def trainer(callbacks=(), **options):
        callbacks = [*callbacks, *([StopAt()] if killed else [])]
        return make_trainer("cpu", 1, precision, callbacks=callbacks, enable_progress_bar=False, **options)

    training = {
        "method": Full(text_encoder=True),
        "captions": CAPTIONS,
        "image_size": 16,
        "steps": 4,
        "batch_size": 4,
        "optimizer": ADAM,
        "warmup_steps": 1,
        "caption_dropout": 0.1,
        "flip": True,
        "accumulate_grad_batches": 1,
        "sample_every_num_steps": 4,
        "checkpoint_every_minutes": 0,
        "seed": 0,
        "ema_decay": 0.5,
        "sample_prompts": ["a red spot"],
    }
    out.mkdir(exist_ok=True)
    sizes = Sizes(700, 32, 16, 1, [16, 32, 48], 6, [16, 16, 16])
    autoencoder = AutoencoderTraining(2, 4, 1, 0.1, 0.3, 1.0, 1e-4, lesion_weight, ADAM)
    text = TextTraining(2, 4, 1, ADAM)
    stage = partial(pretrain, sizes, autoencoder, text, Finetune(**(training | changes)))
    stage(manifest=manifest, trainer=trainer, logger=False, out=out)


def weights(out: Path) -> dict[str, torch.Tensor]:
    pipeline = StableDiffusionPipeline.from_pretrained(out / "pipeline", torch_dtype=torch.float32)
    modules = (pipeline.unet, pipeline.text_encoder, pipeline.vae)
    return {
        f"{number}.{key}": value
        for number, module in enumerate(modules)
        for key, value in module.state_dict().items()
    }


def test_leaves_a_pipeline_that_diffusers_runs(photographs: Manifest, tmp_path: Path):
    run(photographs, tmp_path, precision="bf16-mixed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.json", "pipeline", "samples"]
    assert not list(tmp_path.rglob("*.bin"))
    assert str(tmp_path) not in "".join(path.read_text() for path in tmp_path.rglob("*.json")), (
        "no path of this machine"
    )
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline", torch_dtype=torch.float32)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    picture = pipeline("a red spot", 16, 16, 2, output_type="np").images[0]
    assert picture.shape == (16, 16, 3)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(photographs: Manifest, tmp_path: Path):
    run(photographs, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        run(photographs, tmp_path / "killed", killed=True)
    run(photographs, tmp_path / "killed")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=2e-3)


def test_lesions_can_weigh_more_where_their_masks_are_known(photographs: Manifest, tmp_path: Path):
    for weigh in ({"objective": Objective(lesion_weight=1.0)}, {"lesion_weight": 1.0}):
        with pytest.raises(InputError, match=r"lesion_weight=1.0 needs the lesions' mask of every image"):
            run(photographs, tmp_path / "without", **weigh)
    mask = Image.new("1", (16, 16))
    mask.paste(1, (4, 4, 12, 12))
    mask.save(tmp_path / "mask.png")
    masked = photographs.with_table(photographs.table.with_columns(mask=pl.lit(str(tmp_path / "mask.png"))))
    run(masked, tmp_path / "plain")
    run(masked, tmp_path / "unet", objective=Objective(lesion_weight=1.0))
    run(masked, tmp_path / "vae", lesion_weight=1.0)
    plain, unet, vae = (weights(tmp_path / name) for name in ("plain", "unet", "vae"))
    assert any(not torch.equal(plain[key], unet[key]) for key in plain if key.startswith("0."))
    assert all(torch.equal(plain[key], unet[key]) for key in plain if key.startswith("2."))
    assert any(not torch.equal(plain[key], vae[key]) for key in plain if key.startswith("2."))


def test_an_image_size_that_does_not_fit_is_refused(photographs: Manifest, tmp_path: Path):
    with pytest.raises(InputError, match="multiple of 16, got 20"):
        run(photographs, tmp_path, image_size=20)


def test_a_text_encoder_starts_by_telling_captions_apart(photographs: Manifest):
    """A linear layer on its mean state, fitted afterwards, names the colour that a caption said in another wording."""
    colours = ["red", "white", "black"]
    table = pl.concat([photographs.table] * 5).with_columns(
        image_id=pl.int_range(pl.len()).cast(pl.String),
        colour=pl.Series([colours[i % 3] for i in range(5 * len(photographs))]),
    )
    manifest, said = photographs.with_table(table), table["colour"].to_list()
    tokenizer = train_tokenizer([f"a photo of a {colour} spot on skin" for colour in colours] * 9, 900, 32)
    torch.manual_seed(0)
    encoder = new_text_encoder(tokenizer, 16, 1)
    training = TextTraining(60, 16, 5, partial(torch.optim.AdamW, lr=1e-2))
    caption = lambda row, rng: f"a photo of a {said[row]} spot"  # noqa: E731
    tell_captions_apart(
        encoder, tokenizer, manifest, caption, {"colour": dict.fromkeys(colours, 1.0)}, training, 0
    )
    texts = [f"skin with a {colour} spot" for colour in colours]
    with torch.no_grad():
        read = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        taught = tokenizer(
            [f"a photo of a {c} spot" for c in colours], padding="max_length", return_tensors="pt"
        )
        states = encoder(read).last_hidden_state.mean(1)
        known = encoder(taught.input_ids).last_hidden_state.mean(1)
    assert torch.cdist(states, known).argmin(1).tolist() == [0, 1, 2]


def test_any_text_becomes_tokens_and_back(tmp_path: Path):
    tokenizer = train_tokenizer(["a photo of a red scaly patch on the arm"] * 5, 1500, 32)
    tokenizer.save_pretrained(tmp_path)
    read = type(tokenizer).from_pretrained(tmp_path)
    for text in ("epidermolysis bullosa (stage 3)", "haut, rötlich", "a photo of psoriasis"):
        assert read(text).input_ids == tokenizer(text).input_ids
        kept = "".join(read.decode(read(text).input_ids, skip_special_tokens=True).split())
        assert kept == "".join(text.split())
    assert all(len(tokenizer.tokenize(word)) == 1 for word in WORDS)
    assert tokenizer.model_max_length == read.model_max_length == 32
