"""Embeddings against the network called by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
import pytest
import timm
import torch
from PIL import Image

from skinaug.images import load_pixels
from skinaug.metrics import features
from skinaug.metrics.features import embed, embed_pixels, normalise
from skinaug.models.backbone import create_backbone


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


def test_each_picture_is_embedded_once_by_a_network(images, tmp_path, monkeypatch):
    torch.manual_seed(0)
    network, other = (create_backbone("test_resnet", 0, pretrained=False) for _ in range(2))
    cache = tmp_path / "pictures.sqlite"
    passed = []
    monkeypatch.setattr(
        features,
        "embed_pixels",
        lambda pixels, *rest: passed.append(len(pixels)) or embed_pixels(pixels, *rest),
    )
    some = images.with_table(images.table.head(4))
    embed(some, lambda num_classes: network, 32, cache=cache)
    found = embed(images, lambda num_classes: network, 32, cache=cache)
    assert passed == [4, 3]
    np.testing.assert_allclose(found, embed(images, lambda num_classes: network, 32), atol=1e-6)
    del passed[:]
    mixed = images.with_table(images.table.reverse())
    np.testing.assert_array_equal(embed(mixed, lambda num_classes: network, 32, cache=cache), found[::-1])
    assert passed == []
    assert not np.allclose(embed(images, lambda num_classes: other, 32, cache=cache), found), "other weights"
    embed(images, lambda num_classes: network, 64, cache=cache)
    assert passed == [7, 7], "other weights and another size are other features"


def test_copies_of_a_picture_share_their_features(images, tmp_path):
    network = create_backbone("test_resnet", 0, pretrained=False)
    twice = images.with_table(
        pl.concat([images.table, images.table.with_columns(image_id=pl.col("image_id") + "b")])
    )
    found = embed(twice, lambda num_classes: network, 32, cache=tmp_path / "pictures.sqlite")
    assert found.shape == (14, 96)
    np.testing.assert_array_equal(found[:7], found[7:])
