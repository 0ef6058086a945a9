"""What a training minimizes, and that kills, devices and broken numbers do what they should."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from commands import Command, on_two_devices, skinaug
from lightning import Callback
from safetensors.torch import load_file

from skinaug.errors import InputError
from skinaug.finetune.average import AveragedWeights
from skinaug.finetune.finetune import Finetune
from skinaug.finetune.methods.full import Full
from skinaug.finetune.methods.lora import Lora
from skinaug.finetune.methods.textual_inversion import TextualInversion
from skinaug.finetune.module import Objective

METHODS = {
    "textual_inversion": "TextualInversion(2, 'skin')",
    "lora": "Lora(rank=2, alpha=6, options={'lora_dropout': 0.2})",
}

RUN = """
import sys
from functools import partial
from pathlib import Path
import torch
from skinaug.models.base import load_pipeline
from skinaug.finetune.finetune import Finetune
from skinaug.finetune.methods.lora import Lora
from skinaug.finetune.methods.textual_inversion import TextualInversion
from skinaug.finetune.module import Objective
from skinaug.manifest import Manifest
from skinaug.prompts import PromptSet
from skinaug.models.trainer import make_trainer
base, photographs, out, method, pause, devices = sys.argv[1:]
out = Path(out)
out.mkdir(exist_ok=True)
from lightning import Callback
import os, time
class Slow(Callback):
    def on_train_batch_end(self, trainer, *_):
        time.sleep(float(pause))
    def on_train_end(self, trainer, module):
        rates = trainer.optimizers[0].param_groups[0]["lr"]
        if trainer.is_global_zero:
            (out / "steps.txt").write_text(f"{trainer.global_step} {trainer.lr_scheduler_configs[0].scheduler.last_epoch} {rates}")
def trainer(callbacks=(), **options):
    return make_trainer("cpu", int(devices), "32-true", callbacks=[*callbacks, Slow()], enable_progress_bar=False, **options)
Finetune(
    method=eval(method), captions=PromptSet("plain", ["a photo of {label}", "a close up of {label}"]), image_size=16, steps=8,
    batch_size=3, optimizer=partial(torch.optim.AdamW, lr=0.05), warmup_steps=2, caption_dropout=0.2, flip=True,
    accumulate_grad_batches=1, sample_every_num_steps=100, sample_prompts=["a photo of skin"],
    checkpoint_every_minutes=0, seed=0, ema_decay=0.5,
    objective=Objective(offset_noise=0.1, input_perturbation=0.1),
)(
    manifest=Manifest.read(Path(photographs)), prior_images=None, base=partial(load_pipeline, base), base_name="tiny",
    licence="none", trainer=trainer, cache=out.parent / "encoded", logger=False, out=out,
)
"""


def arguments(
    base: Path, photographs: Path, out: Path, method: str, pause: float = 0.0, devices: int = 1
) -> list[str]:
    """Of RUN."""
    return [*map(str, (base, photographs, out, METHODS[method], pause, devices))]


@pytest.fixture(scope="module")
def on_disk(photographs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs' manifest in a folder of its own."""
    folder = tmp_path_factory.mktemp("manifest")
    photographs.write(folder)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_training_ends_bit_for_bit_as_an_uninterrupted_one(
    method: str, tiny_random_pipeline: Path, on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = Command(*arguments(tiny_random_pipeline, on_disk, killed, method, pause=3.0), code=RUN)
    wait_for(lambda: list(killed.glob("checkpoints/*.ckpt")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "labels.json").exists()
    (kept,) = killed.glob("checkpoints/*.ckpt")
    assert kept.stat().st_size < 400_000, "frozen weights are not in checkpoints"
    skinaug(*arguments(tiny_random_pipeline, on_disk, killed, method), code=RUN, check=True)
    monkeypatch.setattr(sys, "argv", ["-c", *arguments(tiny_random_pipeline, on_disk, whole, method)])
    exec(RUN, {})
    expected, resumed = weights_in(whole), weights_in(killed)
    assert expected
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())
    assert not (killed / "checkpoints").exists()


@pytest.mark.slow
def test_two_devices_take_the_same_steps_at_the_same_rate(
    tiny_random_pipeline: Path, on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one, two = tmp_path / "one", tmp_path / "two"
    monkeypatch.setattr(sys, "argv", ["-c", *arguments(tiny_random_pipeline, on_disk, one, "lora")])
    exec(RUN, {})
    on_two_devices(*arguments(tiny_random_pipeline, on_disk, two, "lora", devices=2), code=RUN)
    assert (one / "steps.txt").read_text() == (two / "steps.txt").read_text()
    assert weights_in(one).keys() == weights_in(two).keys()


def wait_for(condition, process: Command, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.05)


def weights_in(out: Path) -> dict[str, torch.Tensor]:
    files = sorted(out.rglob("*.safetensors"))
    return {f"{file.name}/{key}": value for file in files for key, value in load_file(file).items()}


class Watch(Callback):
    """Notes the weights after each step."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, module, *_) -> None:
        self.seen.append(
            torch.cat([p.detach().flatten().clone() for p in module.parameters() if p.requires_grad])
        )


def test_averaged_weights_are_the_running_average_of_what_was_learned(teach, tmp_path: Path):
    decay, watch = 0.5, Watch()
    settings = {"optimizer": partial(torch.optim.SGD, lr=0.5), "steps": 4, "ema_decay": decay}
    pipeline = teach(tmp_path / "out", Lora(rank=2, alpha=6), watch=watch, **settings)
    average = watch.seen[0]  # the first step's weights start it
    for weights in watch.seen[1:]:
        average = decay * average + (1 - decay) * weights
    learned = torch.cat(
        [p.detach().flatten() for name, p in pipeline.unet.named_parameters() if ".lora_" in name]
    )
    torch.testing.assert_close(learned, average, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(learned, watch.seen[-1])


def test_averages_leave_whole_numbers_alone(teach, tmp_path: Path):
    pipeline = teach(tmp_path / "out", Full(text_encoder=True), ema_decay=0.9)
    positions = {
        name: value for name, value in pipeline.text_encoder.named_buffers() if "position_ids" in name
    }
    assert positions
    assert all(torch.equal(value.flatten(), torch.arange(value.numel())) for value in positions.values())
    assert AveragedWeights(0.9)._use_buffers is False


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_diverges_keeps_its_last_good_checkpoint(teach, tmp_path: Path):
    with pytest.raises(InputError, match=r"diverged.*optimizer\.lr.*last good checkpoint: .*\.ckpt"):
        teach(tmp_path / "out", Lora(rank=2, alpha=6), optimizer=partial(torch.optim.SGD, lr=1e12), steps=30)
    (kept,) = (tmp_path / "out" / "checkpoints").glob("*.ckpt")
    state = torch.load(kept, weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


def test_one_model_a_class(teach, tmp_path: Path):
    out = tmp_path / "out"
    teach(out, TextualInversion(1, "skin"), scope="class", fresh=True, steps=2)
    assert sorted(path.name for path in (out / "models").iterdir()) == ["blue", "green", "red"]
    files = [path.relative_to(out).as_posix() for path in sorted(out.rglob("*.safetensors"))]
    assert files == [f"models/{c}/textual_inversion/{c}.safetensors" for c in ("blue", "green", "red")]
    changed = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    teach(out, TextualInversion(1, "skin"), scope="class", fresh=True, steps=2)
    assert changed == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}, "made once"


@pytest.mark.parametrize("precision", ["bf16-mixed"])
@pytest.mark.parametrize(
    "method", [TextualInversion(1, "skin"), Lora(rank=2, alpha=4), Full()], ids=lambda m: type(m).__name__
)
def test_half_precision_with_checkpointing_and_accumulation(method, precision: str, teach, tmp_path: Path):
    options = {"gradient_checkpointing": True, "accumulate_grad_batches": 2, "steps": 2}
    teach(tmp_path / "out", method, precision=precision, **options)
    values = weights_in(tmp_path / "out")
    assert values
    assert all(value.isfinite().all() for value in values.values())


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"min_snr_gamma": 0.0}, "min_snr_gamma"),
        ({"offset_noise": -0.1}, "offset_noise"),
        ({"input_perturbation": -1.0}, "input_perturbation"),
        ({"density": "cosine"}, "density"),
        ({"lesion_weight": -1.0}, "lesion_weight"),
    ],
)
def test_bad_objectives(settings: dict, word: str):
    with pytest.raises(InputError, match=word):
        Objective(**settings)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"scope": "patient"}, "scope"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"crops": 0}, "crops"),
        ({"steps": 0}, "steps"),
    ],
)
def test_bad_settings_are_named_before_anything_is_loaded(settings: dict, word: str):
    good = {
        "method": Full(), "captions": None, "image_size": 16, "steps": 1, "batch_size": 1, "optimizer": None, "warmup_steps": 0,
        "caption_dropout": 0.0, "flip": False, "accumulate_grad_batches": 1, "sample_every_num_steps": 1,
        "checkpoint_every_minutes": 1, "seed": 0,
    }  # fmt: skip
    with pytest.raises(InputError, match=word):
        Finetune(**(good | settings))


def test_captions_that_would_be_cut_are_shown(teach, tmp_path: Path):
    from skinaug.prompts import PromptSet

    long = PromptSet("long", ["a photo of {label} " + "on the skin of the arm " * 20 + "end"])
    with pytest.raises(InputError, match=r"would lose .*end"):
        teach(tmp_path / "out", Lora(rank=2), captions=long)


def test_captions_with_a_token_that_nobody_taught_are_refused(teach, tmp_path: Path):
    from skinaug.prompts import PromptSet

    stray = PromptSet("stray", ["a photo of {label} beside <melanoma>"])
    with pytest.raises(InputError, match="<melanoma>"):
        teach(tmp_path / "out", TextualInversion(1, "skin"), captions=stray)
