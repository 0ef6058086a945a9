"""Ways to train a classifier: a probe, averaged weights, epochs, mixed pictures, each on an easy set."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from coloured import coloured_images
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from skinaug.classify import course
from skinaug.classify.classify import classify
from skinaug.classify.fit import fit_classifier
from skinaug.errors import InputError
from skinaug.images import load_pixels
from skinaug.manifest import Manifest
from skinaug.metrics.features import embed, normalise
from skinaug.mix.mix import Mix
from skinaug.models.backbone import create_backbone, make_network
from skinaug.models.given_features import given_features
from skinaug.models.trainer import make_trainer

CPU = partial(make_trainer, accelerator="cpu")
PROBE: dict[str, Any] = {
    "image_size": 32,
    "steps": 200,
    "batch_size": 8,
    "val_every_steps": 50,
    "learns": "head",
    "optimizer": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.0),
    "trainer": CPU,
}


def network(name: str):
    """The same random weights whenever it is asked for."""

    def made(num_classes: int):
        torch.manual_seed(7)
        return create_backbone(name, num_classes, pretrained=False)

    return made


@pytest.fixture
def real(tmp_path: Path) -> Manifest:
    return coloured_images(tmp_path / "real", {"train": 8, "val": 4, "test": 6})


def run(real: Manifest, out: Path, mix: Manifest | None = None, **changes: Any) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    options = {"cache": None, "logger": False, "seed": 0, **changes}
    classify(mix=mix or real.split("train"), real=real, out=out, **options)
    return json.loads((out / "metrics.json").read_text())


def predictions(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "predictions.parquet")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_a_probe_changes_nothing_but_the_last_layer(real: Manifest, tmp_path: Path, name: str):
    """The stored network is the frozen one with a new last layer, and gives the stored predictions from pixels."""
    metrics = run(real, tmp_path / "out", backbone=network(name), **PROBE)
    assert metrics["test"]["top1"] > 0.8
    stored, whole = load_file(tmp_path / "out" / "model.safetensors"), make_network(network(name), 3, 32)
    start = whole.state_dict()
    changed = {key for key in start if not torch.equal(start[key], stored[key])}
    last = whole.pretrained_cfg["classifier"]
    assert changed == {f"{last}.weight", f"{last}.bias"}
    whole.load_state_dict(stored)
    test = real.split("test")
    with torch.inference_mode():
        batch = normalise(torch.from_numpy(load_pixels(test, 32)), whole)
        expected = whole.eval()(batch).softmax(1)
    found = predictions(tmp_path / "out").filter(pl.col("split") == "test").select("^p:.*$").to_numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_long_probe_is_logistic_regression(tmp_path: Path):
    """Plain gradient steps on all images at once, to the end: scikit-learn's solution of the same (regularised) problem."""
    real = coloured_images(tmp_path / "real", {"train": 12, "val": 1, "test": 6}, seed=5)
    train, test = real.split("train"), real.split("test")
    train = train.with_table(
        train.table.with_columns(label=pl.Series(["blue", "green", "red"] * 12))
    )  # not separable
    decay, rate = 0.05, 0.005
    options = {
        **PROBE,
        "batch_size": len(train),
        "steps": 1500,
        "val_every_steps": 1500,
        "optimizer": partial(torch.optim.SGD, lr=rate, momentum=0.9, weight_decay=decay),
        "label_smoothing": 0.0,
        "warmup_steps": 0,
    }
    classifier = fit_classifier(network("test_resnet"), train=train, val=None, **options)
    body = network("test_resnet")(3)
    body.reset_classifier(0)
    features = embed(real, lambda num_classes: body, 32)
    rows = {split: (real.table["split"] == split).to_numpy() for split in ("train", "test")}
    mean, deviation = features[rows["train"]].mean(0), features[rows["train"]].std(0)
    scaled = (features - mean) / np.where(deviation > 1e-6, deviation, 1)
    # scikit-learn: sum of losses + |w|^2 / (2 C), without decay of the bias, which classes of equal size leave at about 0
    plain = LogisticRegression(C=1 / (decay * len(train)), max_iter=5000).fit(
        scaled[rows["train"]], train.labels()
    )
    np.testing.assert_allclose(classifier(test), plain.predict_proba(scaled[rows["test"]]), atol=0.04)


def test_features_of_a_file_teach_what_the_networks_own_do(real: Manifest, tmp_path: Path):
    """In another order in the file, and with the images of no use to this study among them."""
    body = network("test_resnet")(3)
    body.reset_classifier(0)
    vectors = embed(real, lambda num_classes: body, 32)
    order = np.random.default_rng(0).permutation(len(real) + 1)
    ids = np.array([*real.table["image_id"], "unknown"])[order]
    np.savez(tmp_path / "features.npz", image_id=ids, features=np.vstack([vectors, vectors[:1]])[order])
    given = partial(given_features, str(tmp_path / "features.npz"))
    for name, backbone in {"own": network("test_resnet"), "given": given}.items():
        run(real, tmp_path / name, backbone=backbone, **PROBE)
    own, theirs = (predictions(tmp_path / name) for name in ("own", "given"))
    assert own["image_id"].equals(theirs["image_id"])
    np.testing.assert_allclose(own.select("^p:.*$"), theirs.select("^p:.*$"), atol=1e-5)


def test_a_probe_embeds_each_picture_once_a_store(
    real: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []
    from skinaug.metrics import features

    count = features.embed_pixels
    monkeypatch.setattr(
        features, "embed_pixels", lambda pixels, *a, **k: seen.append(len(pixels)) or count(pixels, *a, **k)
    )
    for seed in (0, 1):
        run(
            real,
            tmp_path / f"out{seed}",
            backbone=network("test_resnet"),
            seed=seed,
            **{**PROBE, "cache": tmp_path / "c.sqlite"},
        )
    assert sum(seen) == len(real)


def test_features_are_standardised_by_the_training_images_alone(real: Manifest, tmp_path: Path):
    """With other test images, validation predictions stay what they were."""
    other = coloured_images(tmp_path / "real", {"test": 9}, seed=3, labels={"red": "blue", "blue": "red"})
    swapped = Manifest.concat([real.where(pl.col("split") != "test"), other])
    for name, images in {"a": real, "b": swapped}.items():
        run(images, tmp_path / name, backbone=network("test_resnet"), **PROBE)
    val = pl.col("split") == "val"
    assert predictions(tmp_path / "a").filter(val).equals(predictions(tmp_path / "b").filter(val))


def test_synthetic_images_enter_a_probe_as_they_enter_a_network(real: Manifest, tmp_path: Path):
    """Under wrong names they harm as equals, and less with a small share or weight, or at first."""
    wrong = {"blue": "green", "green": "red", "red": "blue"}
    pool = coloured_images(tmp_path / "pool", {"train": 8}, seed=1, labels=wrong, source="synthetic")
    scores = {}
    for entry in ("add", "sample", "weight", "pretrain"):
        mix = Mix("m", synthetic_ratio=1, entry=entry, sample_probability=0.1, pretrain_share=0.5)(real, pool)
        metrics = run(real, tmp_path / entry, mix, backbone=network("test_resnet"), **PROBE)
        scores[entry] = metrics["test"]["auroc"]
    assert scores.pop("add") < min(scores.values()) - 0.03


FINE = {
    "backbone": network("test_resnet"),
    "image_size": 32,
    "steps": 24,
    "batch_size": 8,
    "val_every_steps": 6,
    "optimizer": partial(torch.optim.AdamW, lr=3e-3),
    "trainer": CPU,
}


def test_averaged_weights_are_judged_and_kept(
    real: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Against an average kept by hand over the same training."""

    class Record(Callback):
        weights: list[dict[str, torch.Tensor]] = []  # noqa: RUF012

        def on_train_start(self, trainer, pl_module):
            self.on_train_batch_end(trainer, pl_module)

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.weights.append({k: v.clone() for k, v in pl_module.network.named_parameters()})

    def recorded(callbacks=(), **options):
        return CPU(callbacks=[Record(), *callbacks], **options)

    metrics = run(real, tmp_path / "out", ema_decay=0.8, **{**FINE, "trainer": recorded})
    best = metrics["train"]["best_step"]
    average = Record.weights[1]  # the first step's weights start the average
    for step in range(2, best + 1):
        average = {k: 0.8 * v + 0.2 * Record.weights[step][k] for k, v in average.items()}
    stored = load_file(tmp_path / "out" / "model.safetensors")
    for name, value in average.items():
        torch.testing.assert_close(stored[name], value, atol=1e-5, rtol=1e-4)
    assert any(not torch.allclose(stored[k], v) for k, v in Record.weights[best].items())
    val = predictions(tmp_path / "out").filter(pl.col("split") == "val")
    curves = pl.read_csv(tmp_path / "out" / "curves.csv")
    at_best = curves.filter(pl.col("step") == best)["val/top1"][0]
    assert (val["prediction"] == val["label"]).mean() == pytest.approx(at_best), (
        "the stored weights are those that were judged"
    )


@pytest.mark.parametrize(
    "recipe",
    [
        {"ema_decay": 0.9, "layer_decay": 0.7, "backbone": network("test_vit")},
        {"mixup": 0.4, "cutmix": 0.4, "focal_gamma": 2.0},
    ],
)
def test_an_interrupted_training_goes_on_to_the_same_result(
    real: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: dict[str, Any]
):
    class Kill(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 15:
                raise KeyboardInterrupt("killed")

    def killed(callbacks, **options):
        return CPU(callbacks=[*callbacks, Kill()], **options)

    options = {**FINE, **recipe}
    run(real, tmp_path / "whole", **options)
    monkeypatch.setattr(course, "SAVE_EVERY", timedelta(0))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(real, tmp_path / "killed", **{**options, "trainer": killed})
    run(real, tmp_path / "killed", **options)
    assert predictions(tmp_path / "whole").equals(predictions(tmp_path / "killed"))


def test_epochs_are_passes_over_the_training_images(real: Manifest, tmp_path: Path):
    half = real.split("train").where(pl.col("image_id").str.contains("-[0-3]$"))
    steps = [
        run(real, tmp_path / name, mix, epochs=2.5, patience=99, **FINE)["train"]["steps"]
        for name, mix in {"a": None, "b": half}.items()
    ]
    assert steps == [8, 4], "2.5 x 24 / 8 = 7.5 and 2.5 x 12 / 8 = 3.75, each rounded up"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learns": "body"}, "classify.learns=body: it is one of network, head"),
        ({"epochs": 0}, "classify.epochs=0"),
        ({"layer_decay": 1.5}, "classify.layer_decay=1.5"),
        ({"ema_decay": 1.0}, "classify.ema_decay=1.0"),
        ({"mixup": -1.0}, "classify.mixup=-1.0"),
        ({"focal_gamma": -0.5}, "classify.focal_gamma=-0.5"),
        (
            {"class_weights": "inverse"},
            "classify.class_weights=inverse: it is one of balanced, effective_number, null",
        ),
        ({"effective_beta": 1.0}, "classify.effective_beta=1.0"),
        ({"label_smoothing": 1.0}, "classify.label_smoothing=1.0"),
        ({"learns": "head", "augmentation": {"hflip": 0.5}}, "classify.augmentation changes pictures"),
        ({"learns": "head", "cutmix": 0.3}, "classify.cutmix changes pictures"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(
    real: Manifest, tmp_path: Path, changes: dict[str, Any], said: str
):
    with pytest.raises(InputError, match=said):
        run(real, tmp_path / "out", **{**FINE, **changes})
