"""Embeddings against the network called by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from skinaug.backbone import create_backbone
from skinaug.images import load_pixels
from skinaug.metrics import features
from skinaug.metrics.features import embed, normalise


@pytest.fixture
def images(make_manifest):
    return make_manifest([{"label": "a"} for _ in range(7)], size=40)


def test_is_what_timm_pools(images):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=0).eval()
    transform = timm.data.create_transform(
        32, crop_pct=1.0, mean=network.pretrained_cfg["mean"], std=network.pretrained_cfg["std"]
    )
    batch = torch.stack([transform(Image.fromarray(picture)) for picture in load_pixels(images, 32)])
    with torch.inference_mode():
        expected = network(batch).numpy()
    found = embed(images, lambda num_classes: network, size=32, batch_size=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_parts_and_batches_do_not_matter(images):
    torch.manual_seed(0)
    network = create_backbone("test_resnet", 0, pretrained=False)
    one, many = (embed(images, lambda num_classes: network, 32, batch_size) for batch_size in (1, 64))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_embeds_part_by_part(images, monkeypatch):
    sizes = []

    def count(manifest, size, cache):
        sizes.append(len(manifest))
        return load_pixels(manifest, size, cache)

    monkeypatch.setattr(features, "load_pixels", count)
    monkeypatch.setattr(features, "BATCHES_AT_ONCE", 2)
    backbone = partial(create_backbone, "test_resnet", pretrained=False)
    assert embed(images, backbone, 32, batch_size=2).shape == (7, 96)
    assert sizes == [4, 3]


def test_no_images_have_no_features(images):
    backbone = partial(create_backbone, "test_resnet", pretrained=False)
    assert embed(images.with_table(images.table.head(0)), backbone, 32).shape == (0, 96)


def test_normalised_as_the_weights_expect():
    network = create_backbone("tf_efficientnet_lite0", 0, pretrained=False)
    pixels = torch.tensor([[[[0, 127, 255]]]], dtype=torch.uint8)
    np.testing.assert_allclose(normalise(pixels, network).flatten(), [-1, -0.5 / 127.5, 1], atol=1e-6)
