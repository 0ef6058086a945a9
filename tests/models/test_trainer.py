"""Trainers are quiet, write nothing and let their callers decide."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from skinaug import termination
from skinaug.models import trainer as module
from skinaug.models.trainer import ResumeCheckpoint, StepProgress, make_trainer, pick_precision


class Line(L.LightningModule):
    """y = w x, for a moment of training."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.line(batch[0]).square().mean()

    def predict_step(self, batch, batch_idx):
        return self.line(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def data() -> DataLoader:
    return DataLoader(TensorDataset(torch.ones(12, 1)), 4)


def test_is_silent_and_writes_nothing(data, tmp_path: Path, monkeypatch, capfd, recwarn):
    monkeypatch.chdir(tmp_path)
    run = make_trainer(accelerator="cpu", max_steps=5)
    model = Line()
    run.fit(model, data)
    assert run.global_step == 5
    make_trainer(accelerator="cpu").predict(model, data)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn if "lightning" in str(warning.filename)] == []


def test_checkpoints_are_on_where_a_callback_asks_for_them(data, tmp_path: Path):
    run = make_trainer(accelerator="cpu", max_steps=2, callbacks=[ModelCheckpoint(tmp_path, "last")])
    run.fit(Line(), data)
    assert (tmp_path / "last.ckpt").is_file()


def test_the_callers_options_win():
    run = make_trainer(accelerator="cpu", num_sanity_val_steps=2, enable_progress_bar=False)
    assert run.num_sanity_val_steps == 2
    assert not any(isinstance(callback, StepProgress) for callback in run.callbacks)


def test_precision(monkeypatch):
    assert pick_precision("16-mixed", on_gpu=True) == "16-mixed"
    assert pick_precision("auto", on_gpu=False) == "32-true"
    for has_bf16, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has_bf16: has)
        assert pick_precision("auto", on_gpu=True) == expected


def test_progress_tells_steps_rate_and_score(data, monkeypatch):
    console = module.get_console().__class__(force_terminal=True, width=100, record=True)
    monkeypatch.setattr(module, "get_console", lambda: console)
    seen = []

    class Watch(StepProgress):
        def on_train_batch_end(self, trainer, *args):
            super().on_train_batch_end(trainer, *args)
            seen.append((self.progress.tasks[0].completed, self.progress.tasks[0].total))

    monkeypatch.setattr(module, "StepProgress", Watch)
    make_trainer(accelerator="cpu", max_steps=3).fit(Line(), data)
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.gpu
def test_auto_is_the_gpu_with_bfloat16(data):
    run = make_trainer(max_steps=2)
    run.fit(Line(), data)
    assert run.strategy.root_device.type == "cuda"
    assert run.precision == "bf16-mixed"


class Sigterm(L.Callback):
    """What a scheduler does to a process, inside a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.batch:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.on_train_batch_start(trainer, pl_module, batch, batch_idx)


@pytest.fixture
def sigterm_is_handled():
    before = signal.getsignal(signal.SIGTERM)
    termination.stop_at_sigterm()
    yield
    signal.signal(signal.SIGTERM, before)
    termination.asked = False


def test_sigterm_ends_a_training_after_a_whole_step_with_a_checkpoint(
    data, tmp_path: Path, sigterm_is_handled
):
    options = {"accelerator": "cpu", "max_steps": 40, "accumulate_grad_batches": 3}
    often = DataLoader(data.dataset, 1)  # 12 batches an epoch
    saver = ResumeCheckpoint(dirpath=tmp_path, filename="last", train_time_interval=timedelta(days=1))
    with pytest.raises(SystemExit) as ended:
        make_trainer(callbacks=[saver, Sigterm(4)], **options).fit(Line(), often)
    assert ended.value.code == 143
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2, "batches 3, 4 and 5 are one step"
    termination.asked = False
    resumed = make_trainer(**options)
    resumed.fit(Line(), often, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert resumed.global_step == 40


def test_other_errors_leave_no_checkpoint_of_half_a_step(data, tmp_path: Path):
    class Fails(Line):
        def training_step(self, batch, batch_idx):
            if batch_idx == 1:
                raise RuntimeError("no more memory")
            return super().training_step(batch, batch_idx)

    saver = ResumeCheckpoint(dirpath=tmp_path, filename="last", train_time_interval=timedelta(days=1))
    with pytest.raises(RuntimeError, match="memory"):
        make_trainer(accelerator="cpu", max_steps=40, callbacks=[saver]).fit(Fails(), data)
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_a_prediction_after_a_whole_batch(data, sigterm_is_handled):
    done = []

    class Counts(Line):
        def predict_step(self, batch, batch_idx):
            done.append(batch_idx)
            return super().predict_step(batch, batch_idx)

    with pytest.raises(SystemExit) as ended:
        make_trainer(accelerator="cpu", callbacks=[Sigterm(1)]).predict(Counts(), data)
    assert ended.value.code == 143
    assert done == [0, 1]


def test_a_sigterm_that_lightning_overlooks_comes_again(data, sigterm_is_handled, monkeypatch):
    monkeypatch.setattr(termination, "RETRY", 0.1)

    class Late(L.Callback):  # before ours
        def on_train_end(self, trainer, pl_module):
            os.kill(os.getpid(), signal.SIGTERM)

    make_trainer(accelerator="cpu", max_steps=1, callbacks=[Late()]).fit(Line(), data)
    with pytest.raises(SystemExit) as ended:
        time.sleep(5)
    assert ended.value.code == 143
