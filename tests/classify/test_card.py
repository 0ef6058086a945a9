"""What a model hub gets of a classifier: timm makes the same network of it, whatever size it was made for."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from torch import nn

from skinaug.classify.card import write_classifier
from skinaug.models.backbone import create_backbone, make_network, other_network

CLASSES = ("acne", "wart")


def small(num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    )


def write(backbone, size: int, make_manifest, tmp_path: Path) -> tuple[nn.Module, Path]:
    """The trained network, and the folder that a hub gets."""
    network = make_network(backbone, 2, size).eval()
    (tmp_path / "artifact").mkdir()
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        tmp_path / "artifact/model.safetensors",
    )
    scores = dict.fromkeys(("balanced_accuracy", "top1", "macro_f1", "auroc", "ece"), 0.5)
    per_class = {name: {"recall": 0.25, "support": 8} for name in CLASSES}
    (tmp_path / "artifact/metrics.json").write_text(json.dumps({"test": {**scores, "per_class": per_class}}))
    drawn = {"prompt": "p", "prompt_set": "plain", "seed": 0, "guidance_scale": 2.0, "num_inference_steps": 2}
    synthetic = {"source": "synthetic", "scheduler": "s", "weights": "w", **drawn}
    rows = [{"label": label, **more} for label in CLASSES for more in ({}, synthetic, synthetic)]
    recipe = {"image_size": size, "steps": 10, "backbone": {"network": {"_target_": "mine.small"}}}
    write_classifier(
        tmp_path / "artifact",
        backbone,
        recipe,
        mix=make_manifest(rows),
        facts=[("prompt sets", "plain")],
        repository="me/mine",
        out=tmp_path / "out",
    )
    return network, tmp_path / "out"


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_timm_makes_the_same_network_of_it(name: str, make_manifest, tmp_path: Path):
    network, out = write(partial(create_backbone, name=name, pretrained=False), 64, make_manifest, tmp_path)
    theirs = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    pictures = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(theirs(pictures), network(pictures))
    config = timm.data.resolve_data_config({}, model=theirs)
    assert (config["input_size"], config["crop_pct"]) == ((3, 64, 64), 1.0)
    assert theirs.pretrained_cfg["label_names"] == list(CLASSES)
    text = (out / "README.md").read_text()
    assert "| acne | 1 | 2 | 0.250 | 8 |" in text
    assert "| prompt sets | plain |" in text
    assert "| licence of the photographs | CC0 |" in text
    assert ModelCard(text).data.pipeline_tag == "image-classification"


def test_a_network_that_timm_does_not_know_says_who_makes_it(make_manifest, tmp_path: Path):
    _, out = write(partial(other_network, network=small), 32, make_manifest, tmp_path)
    assert {path.name for path in out.iterdir()} == {"README.md", "metrics.json", "model.safetensors"}
    text = (out / "README.md").read_text()
    assert "the network that `mine.small` makes for 2 classes" in text
    assert ModelCard(text).data.library_name is None
