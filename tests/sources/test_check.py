"""Every kind of bad file is told apart, and nothing outside the root is read."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.errors import InputError
from skinaug.sources.check import Picture, check_images, refuse_or_drop


def noise(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    noise().save(folder / "good.png")
    return folder


def test_good_picture(root):
    pictures, bad = check_images(root, ["good.png"])
    assert bad == {}
    picture = pictures[0]
    assert isinstance(picture, Picture)
    assert (picture.width, picture.height) == (64, 48)
    assert picture.sha256 == hashlib.sha256((root / "good.png").read_bytes()).hexdigest()
    assert picture.thumbnail.shape == (32, 32)
    assert picture.thumbnail.dtype == np.uint8


def test_pixels_not_files_decide_what_is_the_same_picture(root):
    noise().save(root / "same.bmp")
    noise(seed=1).save(root / "other.png")
    (good, same, other), _ = check_images(root, ["good.png", "same.bmp", "other.png"])
    assert good.pixels_sha256 == same.pixels_sha256 != other.pixels_sha256
    assert good.sha256 != same.sha256


def test_exif_rotation_counts(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    noise().save(root / "turned.jpg", exif=exif)
    (picture,), _ = check_images(root, ["turned.jpg"])
    assert (picture.width, picture.height) == (48, 64)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "I;16", "1"])
def test_other_pixel_modes_are_read(root, mode):
    image = Image.new("I;16", (40, 40)) if mode == "I;16" else noise(40, 40).convert(mode)
    name = "x.tif" if mode == "CMYK" else "x.png"
    image.save(root / name)
    assert check_images(root, [name])[1] == {}


def test_bad_files_and_their_reasons(root):
    noise().save(root / "cut.jpg")
    (root / "cut.jpg").write_bytes((root / "cut.jpg").read_bytes()[:1500])
    (root / "cut.png").write_bytes((root / "good.png").read_bytes()[:4000])
    (root / "empty.png").touch()
    (root / "page.png").write_text("<html>404</html>")
    (root / "vector.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    noise(31, 200).save(root / "tiny.png")
    (root / "folder.png").mkdir()
    names = [
        "cut.jpg",
        "cut.png",
        "empty.png",
        "page.png",
        "vector.png",
        "tiny.png",
        "folder.png",
        "absent.png",
    ]
    pictures, bad = check_images(root, ["good.png", *names], min_size_px=32)
    assert [picture is None for picture in pictures] == [False] + [True] * 8
    reasons = [bad[row] for row in range(1, 9)]
    assert all(reason.startswith("unreadable: ") for reason in reasons[:2])
    assert reasons[2:5] == ["not an image: none of PNG, JPEG, WEBP, BMP, TIFF, AVIF, HEIC"] * 3
    assert reasons[5] == "tiny: 31 x 200 px, below 32"
    assert reasons[6:] == ["no such file"] * 2


def test_decompression_bomb_is_refused(root, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 64 x 48 is more than twice that
    assert check_images(root, ["good.png"])[1][0].startswith("unreadable: ")


def test_nothing_outside_the_root_is_read(root):
    secret = root.parent / "secret.png"
    noise(seed=5).save(secret)
    (root / "link.png").symlink_to(secret)
    (root / "inside.png").symlink_to(root / "good.png")
    _, bad = check_images(root, ["../secret.png", str(secret), "link.png", "inside.png"])
    assert bad == dict.fromkeys(range(3), "leads out of the root")


def test_names_that_no_file_can_have_are_told(root):
    names = ["a\0b.png", "x" * 300 + ".png", "good.png/more.png", "\udcff.png"]
    _, bad = check_images(root, names)
    assert sorted(bad) == [0, 1, 2, 3]


def test_all_bad_files_are_listed_up_to_twenty():
    bad = pl.DataFrame({"path": [f"{n}.png" for n in range(25)], "reason": ["not an image"] * 25})
    with pytest.raises(InputError, match=r"(?s)25 of 30 images.*19\.png.*and 5 more.*on_bad=drop") as caught:
        refuse_or_drop(bad, "fail", total=30)
    assert "20.png" not in str(caught.value)
    refuse_or_drop(bad, "drop", total=30)
    with pytest.raises(InputError, match="25 of 25"):
        refuse_or_drop(bad, "drop", total=25)
