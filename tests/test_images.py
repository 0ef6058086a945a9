"""Pictures: orientation, squares, and one decode each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from skinaug import images


def test_exif_orientation_is_applied(tmp_path: Path):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the viewer must turn the picture by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turned = np.asarray(images.open_image(tmp_path / "a.png"))
    assert turned.shape == (8, 4, 3)
    assert (turned == np.rot90(pixels, k=-1)).all()


def test_square_crops_the_centre_and_keeps_proportions():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    assert (images.square(Image.fromarray(pixels), 10) == 200).all()


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = images.square(Image.fromarray(stripes), 16)
    assert (
        abs(small.astype(int) - 127).max() < 20
    )  # sampled without a filter, the stripes would alias to 0 or 255


def test_each_picture_is_decoded_once_and_an_edited_one_again(make_manifest, tmp_path: Path, monkeypatch):
    manifest = make_manifest([{"label": "a"}, {"label": "b"}, {"label": "a"}])
    opened = []
    real = images.open_image
    monkeypatch.setattr(images, "open_image", lambda path: opened.append(path) or real(path))
    cache = tmp_path / "cache" / "pixels.sqlite"
    first = images.load_pixels(manifest, 8, cache)
    again = images.load_pixels(manifest.with_table(manifest.table.reverse()), 8, cache)
    assert len(opened) == 3
    assert (again == first[::-1]).all()
    assert first.shape == (3, 8, 8, 3)
    assert (images.load_pixels(manifest, 8) == first).all()
    images.load_pixels(manifest, 4, cache)
    assert len(opened) == 9
