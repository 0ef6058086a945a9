"""A classifier's training: ours, and the loop of timm's train.py with its own loader, over the same pictures and network."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from timm.data import ImageDataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy

from skinaug.classify.fit import fit_classifier
from skinaug.classify.learner import freeze_statistics
from skinaug.manifest import Manifest
from skinaug.models.backbone import create_backbone
from skinaug.models.trainer import make_trainer
from skinaug.store.digest import sha256_file
from tests.bench import measure
from tests.bench.process import Run, run, turns

CLASSES = ("eczema", "nevus", "psoriasis", "tinea")
BATCH = {64: 32, 224: 16}  # images a step, by pixels a side
STEPS = {64: 80, 224: 12}
NETWORK = partial(create_backbone, name="tf_efficientnet_lite0", pretrained=True)
RATES = {"lr": 5e-4, "weight_decay": 0.05}
AUGMENTATION = {"scale": [0.5, 1.0], "ratio": [0.8, 1.25], "hflip": 0.5, "vflip": 0.5, "color_jitter": 0.2}


def make_pictures(folder: Path, side: int, per_class: int) -> None:
    """Random PNG files of `side` pixels in a folder a class."""
    rng = np.random.default_rng(0)
    for label in CLASSES:
        (folder / label).mkdir()
        for number in range(per_class):
            pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def ours(folder: str, side: int, steps: int) -> dict[str, Any]:
    """`fit_classifier` without a validation: images a second over all steps, starting included."""
    rows = [
        {"image_id": f"{file.parent.name}-{file.stem}", "path": f"{file.parent.name}/{file.name}"}
        | {"label": file.parent.name, "split": "train", "group_id": file.stem, "source": "real"}
        | {"width": side, "height": side, "sha256": sha256_file(file)}
        for file in sorted(Path(folder).glob("*/*.png"))
    ]
    start = time.perf_counter()
    fit_classifier(
        NETWORK, side, steps, train=Manifest(pl.DataFrame(rows), Path(folder), CLASSES), val=None,
        trainer=partial(make_trainer, devices=1), batch_size=BATCH[side], freeze_batch_norm=True, augmentation=AUGMENTATION,
        optimizer=partial(torch.optim.AdamW, fused=True, **RATES),
    )  # fmt: skip
    return _rate(steps * BATCH[side], start)


def plain(folder: str, side: int, steps: int) -> dict[str, Any]:
    """timm's loader with a worker a core, and its loop: without AMP, which train.py asks for by an option."""
    device = measure.device()
    start = time.perf_counter()
    network = NETWORK(num_classes=len(CLASSES))
    freeze_statistics(network)
    network.to(device)
    shown = resolve_data_config({}, model=network)
    loader = create_loader(
        ImageDataset(folder), (3, side, side), BATCH[side], is_training=True, use_prefetcher=device.type == "cuda",
        mean=shown["mean"], std=shown["std"], interpolation="random", num_workers=os.cpu_count() or 1, device=device,
        persistent_workers=True, **AUGMENTATION,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), **RATES)
    loss, done = LabelSmoothingCrossEntropy(0.1), 0
    while done < steps:
        for pictures, labels in loader:
            optimizer.zero_grad()
            loss(network(pictures.to(device)), labels.to(device)).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    if device.type == "cuda":
        torch.cuda.synchronize()
    return _rate(steps * BATCH[side], start)


def _rate(images: int, start: float) -> dict[str, Any]:
    seconds = time.perf_counter() - start
    return {"rate": images / seconds, "seconds": seconds}


def rows(
    run: Run = run,
    times: int = 3,
    sides: tuple[int, ...] = (64, 224),
    per_class: int = 80,
    steps: int | None = None,
) -> list[tuple[str, str]]:
    """A row a size of pictures. times: how often each way runs. steps: of each training; None: STEPS."""
    made = []
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            make_pictures(Path(folder), side, per_class)
            what = {"folder": folder, "side": side, "steps": steps or STEPS[side]}
            own, theirs = turns(run, "classifying", {"ours": {}, "plain": {}}, times, **what)
        made.append(
            (
                f"classifier, EfficientNet-Lite0, {side} px, batches of {BATCH[side]}",
                f"{own['rate']:.1f} images/s, timm's loop {theirs['rate']:.1f} ({own['rate'] / theirs['rate']:.2f}x); "
                f"{own['peak_gb']:.2f} / {theirs['peak_gb']:.2f} GB",
            )
        )
    return made
