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
from skinaug.finetune.module import DiffusionFinetuner, Objective
from skinaug.finetune.pretrain import AutoencoderTraining, Sizes, pretrain
from skinaug.finetune.read_back import ReadBack, ReadBackTrainer
from skinaug.finetune.reader import misreading, readings, train_reader
from skinaug.finetune.text_start import tell_captions_apart
from skinaug.finetune.tokenizer import WORDS, train_tokenizer
from skinaug.finetune.words import UNKNOWN, WordTraining
from skinaug.manifest import Manifest
from skinaug.models.trainer import make_trainer
from skinaug.prompts import PromptSet

CAPTIONS = PromptSet("plain", ["a photo of a {label} spot", "{label} spots on skin"])
ADAM = partial(torch.optim.AdamW, lr=1e-3)


class StopAt(Callback):
    """Ends a kind of training as a kill would."""

    def __init__(self, kind: type[DiffusionFinetuner]) -> None:
        self.kind = kind

    def on_train_batch_start(self, trainer, module, *_) -> None:
        if type(module) is self.kind and trainer.global_step == 2:
            raise RuntimeError("killed")


def run(
    manifest: Manifest,
    out: Path,
    killed: type[DiffusionFinetuner] | None = None,
    precision: str = "32-true",
    lesion_weight: float = 0.0,
    read_back: ReadBack | None = None,
    **changes,
) -> None:
    def trainer(callbacks=(), **options):
        callbacks = [*callbacks, *([StopAt(killed)] if killed else [])]
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
    text = WordTraining(2, 4, 1, ADAM)
    stage = partial(pretrain, sizes, autoencoder, text, Finetune(**(training | changes)), read_back)
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
        run(photographs, tmp_path / "killed", killed=DiffusionFinetuner)
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
    training = WordTraining(60, 16, 5, partial(torch.optim.AdamW, lr=1e-2))
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


COLOURS = PromptSet("coloured", ["a photo of a {colour} spot"], {"colour": {"red": 1, "green": 1, "blue": 1}})


def read_back(**changes) -> ReadBack:
    settings = {
        "reader": WordTraining(60, 16, 5, partial(torch.optim.AdamW, lr=1e-2)),
        "steps": 4,
        "batch_size": 6,
        "warmup_steps": 1,
        "ema_decay": 0.5,
        "weight": 1.0,
        "draw_steps": (2, 3),
        "share": 1.0,
        "optimizer": ADAM,
    }
    return ReadBack(**(settings | changes))


@pytest.fixture
def coloured(photographs: Manifest) -> Manifest:
    return photographs.with_table(photographs.table.with_columns(colour=pl.col("label")))


def test_drawings_are_read_back_and_learned_from(coloured: Manifest, tmp_path: Path):
    """The weights change, the autoencoder's do not, and an interrupted run ends as an uninterrupted one."""
    told = {"read_back": read_back(), "captions": COLOURS}
    run(coloured, tmp_path / "whole", **told)
    for kind in (DiffusionFinetuner, ReadBackTrainer):
        with pytest.raises(RuntimeError, match="killed"):
            run(coloured, tmp_path / "killed", killed=kind, **told)
    run(coloured, tmp_path / "killed", **told)
    left = ["before_reading", "labels.json", "pipeline", "samples"]
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == left
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "whole").rglob("*.json"))
    before, after = weights(tmp_path / "whole/before_reading"), weights(tmp_path / "whole")
    resumed = weights(tmp_path / "killed")
    for key, value in after.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=2e-3)
        assert key.startswith("2.") <= torch.equal(before[key], value)
    assert any(not torch.equal(before[key], after[key]) for key in after if key.startswith("0."))
    assert any(not torch.equal(before[key], after[key]) for key in after if key.startswith("1."))


def test_a_reader_tells_words_and_knows_how_surely(coloured: Manifest):
    """Of latents whose first channel says the colour: told apart, with a row of probabilities a value that sums to one."""
    numbers = {"colour": torch.arange(300) % 3}
    moments = torch.zeros(300, 2, 4, 4, 4)
    moments[:, 0, 0] = numbers["colour"][:, None, None].float() - 1
    moments[:, 1] = 0.3
    vocabulary = {"colour": ["red", "green", "blue", "white"]}
    reader = train_reader(moments, 2.0, numbers, vocabulary, read_back().reader, make_trainer("cpu", 1), 0)
    read = readings(reader, moments[:, 0] * 2.0)["colour"]
    assert torch.equal(read.argmax(1), numbers["colour"])
    expected = reader.expected("colour")
    for value in range(3):
        torch.testing.assert_close(expected[value], read[numbers["colour"] == value].mean(0))
    assert expected[3].eq(0).all(), "no picture is white"
    surely = torch.full((2, 4), -9.0).index_fill(1, torch.tensor([1]), 9.0)
    assert misreading(surely, expected, torch.tensor([1, UNKNOWN]))[1] == 0
    asked, other = (misreading(surely, expected, torch.tensor([value, value]))[0] for value in (1, 2))
    assert asked < 0.5 < other
    as_expected = expected[2].clamp(min=1e-9).log()[None]
    assert misreading(as_expected, expected, torch.tensor([2])).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.slow  # half a minute
def test_drawing_from_reading_makes_words_show(coloured: Manifest, tmp_path: Path):
    """A measurement that training does not see: the mean colour of drawings moves towards that of the word asked for."""
    told = {"captions": COLOURS, "flip": False, "caption_dropout": 0.0}
    fast = partial(torch.optim.AdamW, lr=2e-3)
    reader = WordTraining(200, 12, 5, partial(torch.optim.AdamW, lr=5e-3))
    run(
        coloured,
        tmp_path,
        read_back=read_back(steps=60, batch_size=12, optimizer=fast, reader=reader),
        **told,
    )

    def shown(folder: Path) -> float:
        """Mean over drawings of the asked channel against the others, -1 ... 1."""
        pipeline = StableDiffusionPipeline.from_pretrained(folder / "pipeline", torch_dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        gains = []
        for channel, colour in enumerate(("red", "green", "blue")):
            prompts = [f"a photo of a {colour} spot"] * 8
            generators = [torch.Generator().manual_seed(i) for i in range(8)]
            images = pipeline(
                prompts, 16, 16, 4, guidance_scale=1.0, generator=generators, output_type="np"
            ).images
            gains.append(images[..., channel].mean() - images.mean())
        return float(sum(gains))

    assert shown(tmp_path) > shown(tmp_path / "before_reading") + 0.1


def test_nothing_to_read_back_is_refused(photographs: Manifest, tmp_path: Path):
    with pytest.raises(
        InputError, match=r"the data have none of them: colour\. Set finetune\.read_back=null"
    ):
        run(photographs, tmp_path, read_back=read_back(), captions=COLOURS)
    for wrong, said in (({"draw_steps": (3, 2)}, r"draw_steps=\[3, 2\]"), ({"share": 0.0}, "share=0.0")):
        with pytest.raises(InputError, match=said):
            read_back(**wrong)


def test_saved_weights_may_go_part_of_the_way(coloured: Manifest, tmp_path: Path):
    for name, share in (("whole", 1.0), ("half", 0.5)):
        run(coloured, tmp_path / name, read_back=read_back(share=share), captions=COLOURS)
    before, after = weights(tmp_path / "whole/before_reading"), weights(tmp_path / "whole")
    for key, value in weights(tmp_path / "half").items():
        torch.testing.assert_close(value, (before[key] + after[key]) / 2, rtol=0, atol=2e-3)
