"""Pictures: orientation, squares, and one decode each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug import images
from skinaug.errors import InputError


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


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_of_16_bits_is_scaled_and_not_clipped(name: str, tmp_path: Path):
    values = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(values).save(tmp_path / name)
    read = np.asarray(images.open_image(tmp_path / name)).astype(int)
    assert read.shape == (32, 32, 3)
    assert abs(read - values[..., None] / 257).max() <= 1


@pytest.mark.parametrize("kind", ["I", "F"])
def test_values_without_a_known_range_are_refused(kind: str, tmp_path: Path):
    Image.new(kind, (32, 32), 3).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match="32 bits"):
        images.open_image(tmp_path / "a.tif")


def test_what_is_transparent_lies_on_white(tmp_path: Path):
    picture = Image.new("RGBA", (4, 1), (200, 0, 0, 255))
    picture.putpixel((1, 0), (200, 0, 0, 0))
    picture.putpixel((2, 0), (200, 0, 0, 51))
    picture.save(tmp_path / "a.png")
    palette = Image.new("P", (4, 1), 1)
    palette.putpalette([9, 9, 9, 10, 20, 30])
    palette.putpixel((1, 0), 0)
    palette.save(tmp_path / "p.png", transparency=0)
    read = [images.open_image(tmp_path / "a.png").getpixel((x, 0)) for x in range(3)]
    assert read == [(200, 0, 0), (255, 255, 255), (244, 204, 204)]
    assert [images.open_image(tmp_path / "p.png").getpixel((x, 0)) for x in range(2)] == [
        (10, 20, 30),
        (255,) * 3,
    ]


def test_a_picture_format_of_another_name_is_refused_where_its_reader_is_not_ours(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", format="GIF")
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    for name in ("a.png", "b.png"):  # for the second, Pillow would start Ghostscript
        with pytest.raises(OSError, match="cannot identify"):
            images.open_image(tmp_path / name)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(OSError, match="too large"):
        images.open_image(tmp_path / "a.png")


def test_pictures_that_are_not_those_listed_are_all_named(make_manifest, tmp_path: Path):
    manifest = make_manifest([{"label": "a"}] * 4)
    Image.new("RGB", (16, 16)).save(manifest.paths()[1])
    manifest.paths()[2].unlink()
    wrong = manifest.table.with_columns(
        sha256=pl.when(pl.col("image_id") == "i3").then(pl.lit("0" * 64)).otherwise("sha256")
    )
    cache = tmp_path / "cache.sqlite"
    with pytest.raises(InputError) as error:
        images.load_pixels(manifest.with_table(wrong), 8, cache)
    assert "3 pictures" in str(error.value)
    assert all(f"{number}.png" in str(error.value) for number in (1, 2, 3))
    assert not cache.exists(), "nothing of them is kept"
