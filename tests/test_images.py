"""Pictures: orientation, squares, and one decode each."""

from __future__ import annotations

import struct
import sys
import zlib
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


@pytest.mark.parametrize("format", ["HEIF", "AVIF", "JPEG"])
def test_a_telephone_that_was_turned_shows_the_same_picture_in_each_format(format: str, tmp_path: Path):
    """HEIC's reader turns pictures by itself, and leaves an EXIF that once said so: turned twice, it would be wrong again."""
    if format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48] = (200, 80, 40)
    pixels[32:, 48:] = (40, 80, 200)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / "a", format, quality=95, exif=exif.tobytes())
        Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
        read, expected = (np.asarray(images.open_image(tmp_path / name), np.int16) for name in ("a", "a.png"))
        assert read.shape == expected.shape == ((64, 96, 3) if orientation < 5 else (96, 64, 3))
        assert np.abs(read - expected).mean() < 4


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_told_by_content_and_its_absent_reader_by_the_command_that_installs_it(
    brand: bytes, tmp_path: Path, monkeypatch
):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (64, 48), (200, 80, 40)).save(tmp_path / "a.heic")
    content = bytearray((tmp_path / "a.heic").read_bytes())
    content[8:12] = brand
    (tmp_path / "IMG_0001").write_bytes(content)
    assert images.is_picture(tmp_path / "IMG_0001")
    assert images.open_image(tmp_path / "IMG_0001").size == (64, 48)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._heic_reader.cache_clear()
    with pytest.raises(OSError, match=r"pip install 'skinaug\[heic\]'"):
        images.open_image(tmp_path / "IMG_0001")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_twelve_bits_are_scaled_by_one_factor(name: str, tmp_path: Path):
    """A dark picture of a 12-bit camera stays darker than a bright one."""
    for level, noticed in ((4000, images.BITS_12), (2000, images.BITS_12), (800, images.BITS_10)):
        Image.fromarray(np.full((32, 32), level, np.uint16)).save(tmp_path / name)
        read, told = images.read_image(tmp_path / name)
        assert abs(int(np.asarray(read).max()) - level / 4095 * 255) <= 1
        assert told == (noticed,)
    Image.fromarray(np.full((32, 32), 4100, np.uint16)).save(tmp_path / name)
    read, told = images.read_image(tmp_path / name)
    assert (np.asarray(read).max(), told) == (16, ())


def test_colours_of_16_bits_that_hold_12_are_refused(tmp_path: Path):
    def png(values: np.ndarray) -> bytes:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        parts = {
            b"IHDR": struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0),
            b"IDAT": zlib.compress(rows),
            b"IEND": b"",
        }
        chunks = [
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in parts.items()
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    values = np.random.default_rng(0).integers(0, 4096, (32, 32, 3))
    (tmp_path / "a.png").write_bytes(png(values * 16))
    assert np.abs(np.asarray(images.open_image(tmp_path / "a.png")) - values / 16).max() <= 1
    (tmp_path / "a.png").write_bytes(png(values))
    with pytest.raises(OSError, match="hold 12 or fewer"):
        images.open_image(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")  # of 8 bits: dark, and read
    assert images.read_image(tmp_path / "black.png")[1] == ()


def test_files_are_told_to_be_pictures_by_content(tmp_path: Path):
    for format in images.FORMATS:
        Image.new("RGB", (8, 8)).save(tmp_path / "x", format)
        assert images.is_picture(tmp_path / "x")
    for content in (b"", b"LICENSE\n", b"\x89PN"):
        (tmp_path / "x").write_bytes(content)
        assert not images.is_picture(tmp_path / "x")
