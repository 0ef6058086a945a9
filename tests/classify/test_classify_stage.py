"""The classify stage on an easy set: files, fairness and repeatability."""

from __future__ import annotations

import json
import os
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from coloured import coloured_images
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file, save_file
from sklearn.metrics import balanced_accuracy_score

from skinaug import images as pixels
from skinaug import termination
from skinaug.classify import course
from skinaug.classify.classify import classify
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.mix.mix import Mix
from skinaug.models.backbone import create_backbone
from skinaug.models.trainer import make_trainer

BACKBONE = partial(create_backbone, "test_resnet", pretrained=False)
RECIPE = {
    "backbone": BACKBONE,
    "image_size": 32,
    "steps": 24,
    "batch_size": 8,
    "val_every_steps": 6,
    "optimizer": partial(torch.optim.AdamW, lr=3e-3),
    "augmentation": {"scale": [0.7, 1.0], "hflip": 0.5, "color_jitter": 0.1},
    "trainer": partial(make_trainer, accelerator="cpu"),
}


@pytest.fixture
def real(tmp_path: Path) -> Manifest:
    return coloured_images(tmp_path / "real", {"train": 8, "val": 4, "test": 6})


def run(real: Manifest, out: Path, mix: Manifest | None = None, **changes) -> dict:
    out.mkdir(exist_ok=True)
    options = {"cache": None, "logger": False, "seed": 0, **RECIPE, **changes}
    classify(mix=mix or real.split("train"), real=real, out=out, **options)
    return json.loads((out / "metrics.json").read_text())


def test_learns_and_leaves_the_promised_files(real: Manifest, tmp_path: Path):
    metrics = run(real, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "curves.csv",
        "metrics.json",
        "model.safetensors",
        "predictions.parquet",
    ]
    assert metrics["test"]["top1"] > 0.8
    assert metrics["train"] | {"seconds": 0, "images_per_second": 0, "best_step": 0} == {
        "images": 24, "real": 24, "synthetic": 0, "steps": 24, "best_step": 0, "seconds": 0, "images_per_second": 0
    }  # fmt: skip
    curves = pl.read_csv(tmp_path / "out" / "curves.csv")
    assert curves["step"].to_list() == [6, 12, 18, 24]
    assert curves["epoch"].to_list() == [2, 4, 6, 8]
    assert {"train/loss", "val/loss", "val/top1", "val/balanced_accuracy"} <= set(curves.columns)


def test_predictions_give_the_metrics_and_come_from_the_saved_model(real: Manifest, tmp_path: Path):
    metrics = run(real, tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert rows.columns == [
        "image_id",
        "group_id",
        "split",
        "label",
        "prediction",
        "p:blue",
        "p:green",
        "p:red",
    ]
    for split in ("val", "test"):
        part = rows.filter(pl.col("split") == split)
        expected = balanced_accuracy_score(part["label"].to_numpy(), part["prediction"].to_numpy())
        assert metrics[split]["balanced_accuracy"] == pytest.approx(expected)
    network = BACKBONE(num_classes=3).eval()
    network.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    test = real.split("test")
    cfg = network.pretrained_cfg
    batch = torch.from_numpy(pixels.load_pixels(test, 32)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        expected = network((batch - mean) / std).softmax(1)
    found = rows.filter(pl.col("split") == "test").select("p:blue", "p:green", "p:red").to_numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def predictions(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "predictions.parquet")


def test_a_seed_repeats_bit_by_bit_and_seed_0_is_a_seed(real: Manifest, tmp_path: Path):
    for name, seed in {"first": 0, "again": 0, "other": 1}.items():
        torch.manual_seed(99)  # what ran before must not matter
        np.random.default_rng().random()
        run(real, tmp_path / name, seed=seed, steps=6)
    assert predictions(tmp_path / "first").equals(predictions(tmp_path / "again"))
    assert not predictions(tmp_path / "first").equals(predictions(tmp_path / "other"))


def test_worker_processes_change_nothing(real: Manifest, tmp_path: Path):
    for name, workers in {"none": 0, "two": 2}.items():
        run(real, tmp_path / name, steps=6, num_workers=workers)
    assert predictions(tmp_path / "none").equals(predictions(tmp_path / "two"))


def test_test_images_choose_nothing(real: Manifest, tmp_path: Path):
    """With other test images, the checkpoint and the validation predictions stay what they were."""
    other = coloured_images(tmp_path / "real", {"test": 5}, seed=3, labels={"red": "blue", "blue": "red"})
    swapped = Manifest.concat([real.where(pl.col("split") != "test"), other])
    first, second = run(real, tmp_path / "a"), run(swapped, tmp_path / "b")
    assert first["train"]["best_step"] == second["train"]["best_step"]
    val = pl.col("split") == "val"
    assert predictions(tmp_path / "a").filter(val).equals(predictions(tmp_path / "b").filter(val))
    assert second["test"]["top1"] < first["test"]["top1"]


def test_the_earliest_of_the_best_checkpoints_is_kept(real: Manifest, tmp_path: Path):
    metrics = run(real, tmp_path / "out", steps=36)
    curves = pl.read_csv(tmp_path / "out" / "curves.csv")
    best = curves.filter(pl.col("val/balanced_accuracy") == pl.col("val/balanced_accuracy").max())
    assert best.height > 1, "the easy set is solved before the end"
    assert metrics["train"]["best_step"] == best["step"][0]
    assert metrics["val"]["balanced_accuracy"] == pytest.approx(best["val/balanced_accuracy"][0])


def test_steps_do_not_depend_on_the_number_of_images(real: Manifest, tmp_path: Path):
    few = real.split("train").where(pl.col("image_id").str.contains("-[01]$"))
    assert run(real, tmp_path / "out", mix=few, patience=99)["train"]["steps"] == 24


def test_synthetic_images_that_were_left_out_are_asked_about(real: Manifest, tmp_path: Path):
    """As many as the mix left and validation has; none of them has been trained on, and they choose nothing."""
    pool = coloured_images(tmp_path / "pool", {"train": 8}, seed=1, source="synthetic")
    mix = Mix("m", synthetic_per_class=5)(real, pool)
    metrics = run(real, tmp_path / "with", mix, pool=pool)
    rows = predictions(tmp_path / "with")
    asked = rows.filter(pl.col("split") == "synthetic")
    assert dict(asked.group_by("label").len().iter_rows()) == {"blue": 3, "green": 3, "red": 3}
    assert not set(asked["image_id"]) & set(mix.table["image_id"])
    assert metrics["synthetic"]["top1"] == pytest.approx((asked["prediction"] == asked["label"]).mean())
    run(real, tmp_path / "without", mix)
    assert predictions(tmp_path / "without").equals(rows.filter(pl.col("split") != "synthetic"))


def test_stops_early_without_progress(real: Manifest, tmp_path: Path):
    still = partial(torch.optim.SGD, lr=0.0)
    training = run(real, tmp_path / "out", optimizer=still, steps=120, patience=3)["train"]
    assert training["steps"] == training["best_step"] + 3 * 6 < 120


def test_each_picture_is_decoded_once_a_sweep(
    real: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened = []
    monkeypatch.setattr(
        pixels,
        "open_image",
        lambda path, open_image=pixels.open_image: opened.append(path) or open_image(path),
    )
    for seed in (0, 1):
        run(real, tmp_path / f"out{seed}", seed=seed, cache=tmp_path / "pixels.sqlite", steps=6)
    assert sorted(opened) == sorted(real.paths())


def mixed(real: Manifest, folder: Path, entry: str) -> Manifest:
    """All real training images with as many synthetic ones, which have other patients' colours under a wrong name."""
    wrong = {"blue": "green", "green": "red", "red": "blue"}
    pool = coloured_images(folder, {"train": 8}, seed=1, labels=wrong, source="synthetic")
    return Mix("m", synthetic_ratio=1, entry=entry, sample_probability=0.1, pretrain_share=0.5)(real, pool)


def test_a_training_that_sigterm_ends_goes_on_from_that_step(real: Manifest, tmp_path: Path):
    class Sigterm(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 15:
                os.kill(os.getpid(), signal.SIGTERM)

    def ended(callbacks, **options):
        return make_trainer(accelerator="cpu", callbacks=[*callbacks, Sigterm()], **options)

    run(real, tmp_path / "whole")
    with pytest.raises(SystemExit):
        run(real, tmp_path / "ended", trainer=ended)
    saved = torch.load(tmp_path / "ended" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 16
    termination.asked = False
    run(real, tmp_path / "ended")
    assert predictions(tmp_path / "whole").equals(predictions(tmp_path / "ended"))
    assert (tmp_path / "whole" / "curves.csv").read_text() == (tmp_path / "ended" / "curves.csv").read_text()


@pytest.mark.parametrize("entry", ["add", "sample", "weight", "pretrain"])
def test_an_interrupted_training_goes_on_to_the_same_result(
    real: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
):
    class Kill(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 15:
                raise KeyboardInterrupt("killed")

    def killed(callbacks, **options):
        return make_trainer(accelerator="cpu", callbacks=[*callbacks, Kill()], **options)

    mix = mixed(real, tmp_path / "pool", entry)
    run(real, tmp_path / "whole", mix)
    monkeypatch.setattr(course, "SAVE_EVERY", timedelta(0))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(real, tmp_path / "killed", mix, trainer=killed)
    assert (tmp_path / "killed" / "checkpoints" / "last.ckpt").is_file()
    metrics = run(real, tmp_path / "killed", mix)
    assert metrics["train"]["steps"] == 24
    assert predictions(tmp_path / "whole").equals(predictions(tmp_path / "killed"))
    assert (tmp_path / "whole" / "curves.csv").read_text() == (tmp_path / "killed" / "curves.csv").read_text()
    assert not (tmp_path / "killed" / "checkpoints").exists()


def test_how_wrong_labels_enter_decides_how_much_they_harm(real: Manifest, tmp_path: Path):
    """Equal steps for all; a wrong name a picture harms as an equal, and little with a small share or weight, or at first."""
    scores = {}
    for entry in ("add", "sample", "weight", "pretrain"):
        mix = mixed(real, tmp_path / "pool", entry)
        metrics = run(real, tmp_path / entry, mix, steps=48, patience=99)
        assert metrics["train"]["steps"] == 48
        assert metrics["train"]["synthetic"] == metrics["train"]["real"] == 24
        scores[entry] = metrics["test"]["auroc"]
    assert scores.pop("add") < min(scores.values()) - 0.05


def test_only_the_last_phase_is_judged(real: Manifest, tmp_path: Path):
    """While only wrongly named pictures are drawn, nothing stops the training and no checkpoint is chosen."""
    mix = mixed(real, tmp_path / "pool", "pretrain")
    still = partial(torch.optim.SGD, lr=0.0)
    training = run(real, tmp_path / "out", mix, optimizer=still, steps=120, patience=3)["train"]
    assert training["best_step"] == 60 + 6
    assert training["steps"] == training["best_step"] + 3 * 6


def test_logs_under_the_agreed_keys(real: Manifest, tmp_path: Path):
    logger = CSVLogger(tmp_path / "logs", name="", version="")
    run(real, tmp_path / "out", logger=logger)
    logger.save()
    logged = set(pl.read_csv(tmp_path / "logs" / "metrics.csv").columns)
    assert {
        "train/loss",
        "val/loss",
        "val/top1",
        "val/balanced_accuracy",
        "val/auroc",
        "test/auroc",
        "test/top1",
        "test/auprc",
        "test/pauc",
        "test/sensitivity_at_90_specificity",
        "test/specificity_at_95_sensitivity",
    } <= logged


def test_writes_nothing_elsewhere(real: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    run(real, tmp_path / "out", steps=6)
    assert list((tmp_path / "cwd").iterdir()) == []


@pytest.mark.parametrize(("missing", "said"), [("val", "validation split"), ("test", "test split")])
def test_a_missing_split_is_refused(real: Manifest, tmp_path: Path, missing: str, said: str):
    with pytest.raises(InputError, match=f"The {said} has no images"):
        run(real.where(pl.col("split") != missing), tmp_path / "out")


def test_frozen_batch_norm_keeps_its_statistics_and_learns_the_rest(real: Manifest, tmp_path: Path):
    start = BACKBONE(num_classes=3).state_dict()
    for name in start:
        if name.endswith("running_mean"):
            start[name] += 0.1
    save_file(start, tmp_path / "pretrained.safetensors")
    pretrained = partial(create_backbone, "test_resnet", weights=str(tmp_path / "pretrained.safetensors"))
    for name, freeze in {"frozen": True, "free": False}.items():
        run(real, tmp_path / name, backbone=pretrained, steps=12, val_every_steps=4, freeze_batch_norm=freeze)
        end = load_file(tmp_path / name / "model.safetensors")
        moved = {key: not torch.equal(start[key], end[key]) for key in start}
        assert moved["bn1.running_mean"] is moved["layer4.0.bn1.running_var"] is not freeze
        assert moved["bn1.weight"]


def test_batch_norm_without_statistics_is_not_frozen(real: Manifest, tmp_path: Path):
    run(real, tmp_path / "out", steps=6, freeze_batch_norm=True)
    assert load_file(tmp_path / "out" / "model.safetensors")["bn1.running_mean"].any()


def test_a_transformer_trains_at_small_sizes_too(real: Manifest, tmp_path: Path):
    vit = partial(create_backbone, "test_vit", pretrained=False)
    assert run(real, tmp_path / "out", backbone=vit, steps=6)["train"]["steps"] == 6
