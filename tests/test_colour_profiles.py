"""Embedded profiles against the arithmetic of their spaces: one colour is one colour, however it was saved."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageCms

from skinaug import colour_profiles
from skinaug.images import BROKEN_PROFILE, load_pixels, open_image, read_image
from skinaug.metrics.colour import lab
from skinaug.store.digest import sha256_file

SKINS = np.array([[198, 143, 121], [232, 190, 172], [141, 85, 36], [74, 43, 30], [250, 219, 199]], np.uint8)
D50 = np.array([0.9642, 1.0, 0.8249])
D65 = np.array([0.95047, 1.0, 1.08883])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
PRIMARIES = {  # x, y of red, green and blue, and of white
    "sRGB": ((0.64, 0.33, 0.30, 0.60, 0.15, 0.06), (0.3127, 0.3290)),
    "ProPhoto": ((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), (0.3457, 0.3585)),
    "Adobe": ((0.64, 0.33, 0.21, 0.71, 0.15, 0.06), (0.3127, 0.3290)),
    "Apple": ((0.625, 0.34, 0.28, 0.595, 0.155, 0.07), (0.3127, 0.3290)),
}


def srgb_to_linear(value: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


def lightness(linear: np.ndarray) -> np.ndarray:
    """L* as a share, CIE 1976."""
    return np.where(linear > 216 / 24389, 1.16 * np.cbrt(linear) - 0.16, linear * 24389 / 2700)


def unlightness(value: np.ndarray) -> np.ndarray:
    return np.where(value > 0.08, ((value + 0.16) / 1.16) ** 3, value * 2700 / 24389)


CURVES = {  # name -> primaries, linear to value, value to linear
    "ProPhoto": ("ProPhoto", lambda v: v ** (1 / 1.8), lambda v: v**1.8),
    "Adobe RGB": ("Adobe", lambda v: v ** (256 / 563), lambda v: v ** (563 / 256)),
    "Apple RGB": ("Apple", lambda v: v ** (1 / 1.8), lambda v: v**1.8),
    "L*": ("sRGB", lightness, unlightness),
}


def to_xyz(space: str) -> np.ndarray:
    """Linear RGB to XYZ relative to D50, by the primaries' chromaticities and Bradford's adaptation: [3, 3]."""
    (rx, ry, gx, gy, bx, by), (wx, wy) = PRIMARIES[space]
    matrix = np.array([[x / y, 1, (1 - x - y) / y] for x, y in ((rx, ry), (gx, gy), (bx, by))]).T
    white = np.array([wx / wy, 1, (1 - wx - wy) / wy])
    matrix = matrix * np.linalg.solve(matrix, white)
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    return adapt @ matrix


def icc(space: str, to_linear, kind: bytes = b"RGB ") -> bytes:
    """A matrix profile of ICC version 2, or one of grey."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    samples = np.round(to_linear(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    curve = b"curv" + bytes(4) + struct.pack(">I", len(samples)) + samples.tobytes()
    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed(*D50)}
    if kind == b"RGB ":
        columns = to_xyz(space).T
        tags |= {
            name: b"XYZ " + bytes(4) + fixed(*column)
            for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
        }
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    else:
        tags[b"kTRC"] = curve
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    size = offset + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, b"mntr", kind, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(*D50) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + data


def saved_as(name: str, colours: np.ndarray) -> tuple[np.ndarray, bytes]:
    """The values that stand for sRGB colours (uint8 [..., 3]) in another space, uint8, and its profile."""
    space, to_value, to_linear = CURVES[name]
    linear = srgb_to_linear(colours / 255) @ (np.linalg.inv(to_xyz(space)) @ to_xyz("sRGB")).T
    return np.round(to_value(linear.clip(0, 1)) * 255).astype(np.uint8), icc(space, to_linear)


def ita(colours: np.ndarray) -> np.ndarray:
    found = lab(colours / 255)
    return np.degrees(np.arctan2(found[..., 0] - 50, found[..., 2]))


def encoded(pixels: np.ndarray, format: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP", "AVIF", "HEIF"])
def test_a_skin_colour_comes_back_whatever_space_it_was_saved_in(name: str, format: str, tmp_path: Path):
    if format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    lossless |= {other: {"quality": 100, "subsampling": "4:4:4"} for other in ("AVIF", "HEIF")}
    for colour in SKINS[:2] if format in ("AVIF", "HEIF") else SKINS:
        skin = np.full((64, 64, 3), colour)
        values, profile = saved_as(name, skin)
        assert np.abs(values.astype(int) - skin).max() >= 4, "its plain values are of another colour"
        path = tmp_path / "skin"
        path.write_bytes(encoded(values, format, icc_profile=profile, **lossless.get(format, {})).getvalue())
        image, noticed = read_image(path)
        read = np.asarray(image)
        assert noticed == ()
        exact = format in ("PNG", "TIFF", "WEBP")
        assert np.abs(read.astype(int) - skin).max() <= (
            1 if exact else 3
        )  # lossy formats move the file's values
        assert np.abs(ita(read) - ita(skin)).max() < (1 if exact else 1.6)


def test_ita_by_the_profile_and_without(tmp_path: Path):
    """Fair skin, as the plain values of each space would move it by two skin types."""
    skin = np.full((8, 8, 3), SKINS[0])
    ignored, honoured = {}, {}
    for name in CURVES:
        values, profile = saved_as(name, skin)
        (tmp_path / "a.png").write_bytes(encoded(values, icc_profile=profile).getvalue())
        ignored[name] = (ita(values) - ita(skin))[0, 0]
        honoured[name] = (ita(np.asarray(open_image(tmp_path / "a.png"))) - ita(skin))[0, 0]
    assert min(ignored.values()) < -15
    assert max(ignored.values()) > 5
    assert max(abs(angle) for angle in honoured.values()) < 1


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "L", "1"])
def test_pictures_of_all_modes_go_by_a_profile(mode: str, tmp_path: Path):
    space = "Adobe RGB" if mode in ("RGBA", "P") else "L*"
    values, profile = saved_as(space, np.full((32, 32, 3), SKINS[0] if mode in ("RGBA", "P") else 119))
    if mode not in ("RGBA", "P"):
        profile = icc("sRGB", unlightness, b"GRAY")
    picture = Image.new("1", (32, 32), 1) if mode == "1" else Image.fromarray(values)
    picture = picture.quantize(4) if mode == "P" else picture.convert(mode)
    if mode in ("RGBA", "LA"):
        picture.putpixel((3, 3), (*picture.getpixel((3, 3))[:-1], 0))
    picture.save(tmp_path / "a.png", icc_profile=profile)
    read = np.asarray(open_image(tmp_path / "a.png")).astype(int)
    expected = {"1": 255, "RGBA": SKINS[0], "P": SKINS[0]}.get(mode, 119)
    assert np.abs(read[0, 0] - expected).max() <= 2
    assert (read[3, 3] == 255).all() or mode not in ("RGBA", "LA"), "what is transparent lies on white"


def test_grey_of_16_bits_goes_by_its_profile(tmp_path: Path):
    values = np.full((32, 32), round(lightness(srgb_to_linear(np.array(119 / 255))) * 65535), np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", icc_profile=icc("sRGB", unlightness, b"GRAY"))
    assert np.abs(np.asarray(open_image(tmp_path / "a.png")).astype(int) - 119).max() <= 2


def cmyk_profile() -> bytes:
    """Of a printer whose inks subtract from white: L* of 100 minus all ink, of no hue. ICC version 2 with a table of 2^4 nodes."""
    inks = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), -1).reshape(-1, 4)
    bright = (1 - inks[:, :3].mean(1)) * (1 - inks[:, 3])
    lab = np.stack([bright * 0xFF00, np.full(16, 0x8000), np.full(16, 0x8000)], 1).round().astype(">u2")
    ramp = np.array([0, 65535], ">u2").tobytes()
    table = (
        b"mft2" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(np.eye(3) * 65536).astype(int).flat)
    )
    table += struct.pack(">HH", 2, 2) + ramp * 4 + lab.tobytes() + ramp * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in D50))
    tags, table_of_tags, data = {b"A2B0": table, b"A2B1": table, b"wtpt": white}, b"", b""
    offset = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table_of_tags += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    header = struct.pack(">I4sI4s4s4s", offset + len(data), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table_of_tags + data


def test_cmyk_goes_by_its_profile(tmp_path: Path):
    picture = Image.new("CMYK", (32, 32), (51, 51, 51, 0))  # a fifth of each ink: L* of 80
    picture.save(tmp_path / "a.tif", icc_profile=cmyk_profile())
    image, noticed = read_image(tmp_path / "a.tif")
    level = round(float(1.055 * unlightness(np.array(0.8)) ** (1 / 2.4) - 0.055) * 255)
    assert noticed == ()
    assert np.abs(np.asarray(image).astype(int) - level).max() <= 2
    assert level < 204 - 3, "which is what the plain values say"


def broken_profiles() -> dict[str, dict]:
    whole = icc(*CURVES["Adobe RGB"][::2])
    return {
        "text": {"icc_profile": b"no profile"},
        "cut": {"icc_profile": whole[:300]},
        "grey in colours": {"icc_profile": icc("sRGB", unlightness, b"GRAY")},
        "CMYK in colours": {"icc_profile": cmyk_profile()},
    }


@pytest.mark.parametrize("kind", broken_profiles())
def test_a_broken_profile_leaves_the_plain_values_and_is_told(kind: str, tmp_path: Path):
    skin = np.full((32, 32, 3), SKINS[0])
    (tmp_path / "a.png").write_bytes(encoded(skin, **broken_profiles()[kind]).getvalue())
    image, noticed = read_image(tmp_path / "a.png")
    assert noticed == (BROKEN_PROFILE,)
    assert (np.asarray(image) == skin).all()
    assert "icc_profile" not in image.info, "who saves it would hand the broken profile on"


def test_a_profile_of_which_a_part_is_lost_is_told(tmp_path: Path):
    """A JPEG file holds a long profile in numbered parts; the text of a PNG's may be cut off."""
    long = icc(*CURVES["Adobe RGB"][::2]) + bytes(70_000)
    content = encoded(np.full((32, 32, 3), SKINS[0]), "JPEG", icc_profile=long, quality=95).getvalue()
    second = content.rindex(b"ICC_PROFILE\0") - 4
    length = struct.unpack(">H", content[second + 2 : second + 4])[0]
    (tmp_path / "a.jpg").write_bytes(content[:second] + content[second + 2 + length :])
    assert read_image(tmp_path / "a.jpg")[1] == (BROKEN_PROFILE,)


@pytest.mark.parametrize("name", ["LittleCMS", "matrix"])
def test_srgb_costs_nothing(name: str, tmp_path: Path, monkeypatch):
    """Whatever an sRGB profile is called, pixels are not touched: not one is moved by rounding."""
    profile = {
        "LittleCMS": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "matrix": icc("sRGB", srgb_to_linear),
    }[name]
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(encoded(pixels, icc_profile=profile).getvalue())
    assert (np.asarray(open_image(tmp_path / "a.png")) == pixels).all()
    monkeypatch.setattr(colour_profiles.ImageCms, "ImageCmsTransform", None)  # nor is the profile read again
    assert read_image(tmp_path / "a.png")[1] == ()


def test_a_manifest_is_decoded_by_profile(make_manifest):
    manifest = make_manifest([{"label": "a"}] * 2)
    values, profile = saved_as("ProPhoto", np.full((32, 32, 3), SKINS[0]))
    for path in manifest.paths():
        path.write_bytes(encoded(values, icc_profile=profile).getvalue())
    digests = pl.Series([sha256_file(path) for path in manifest.paths()])
    table = manifest.table.with_columns(sha256=digests)
    assert np.abs(load_pixels(manifest.with_table(table), 8).astype(int) - SKINS[0]).max() <= 2
