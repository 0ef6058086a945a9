"""What lies in a folder beside photographs that can be read is told, in the terminal and in the summary: nothing is silently left out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug import images
from skinaug.dataset.dataset import build_dataset
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.sources.root import check_root
from skinaug.sources.sources import Csv, Folder, Source

STUB = b"\0\0\0\x18ftypheic" + bytes(64)  # begins as HEIC does, and holds no picture


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """A function that saves another photograph at each call."""
    rng = np.random.default_rng(0)

    def save(name: str, format: str | None = None, **options) -> Path:
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(90, 230, (6, 6, 3), np.uint8))
        coarse.resize((72, 72), Image.Resampling.BICUBIC).save(path, format, **options)
        return path

    return save


@pytest.fixture
def suffixes(draw) -> Path:
    """Of 36 photographs of acne 20 are called .jfif, and beside them lie 20 of a telephone that are no pictures."""
    for label in ("acne", "eczema"):
        for number in range(8):
            draw(f"{label}/{label}{number}.jpg")
    for number in range(20):
        (draw(f"acne/scan{number}.jfif", "JPEG").parent / f"IMG_{number}.HEIC").write_bytes(STUB)
    return draw("eczema/last.jpg").parents[1]


def build(root: Path, source: Source | None = None, **options) -> tuple[Manifest, dict, pl.DataFrame]:
    out = root.parent / "out"
    out.mkdir(exist_ok=True)
    build_dataset(source or Folder(), str(root), out, **options)
    summary = json.loads((out / "summary.json").read_text())
    return Manifest.read(out), summary, pl.read_csv(out / "dropped.csv")


def test_photographs_of_telephones_are_read_or_told(suffixes: Path, capsys):
    pytest.importorskip("pillow_heif").register_heif_opener()
    with pytest.raises(InputError, match=r"(?s)20 of 57 images cannot be used.*IMG_0\.HEIC: not an image"):
        build(suffixes)
    manifest, summary, dropped = build(suffixes, on_bad="drop")
    assert manifest.table["label"].value_counts().sort("label").rows() == [("acne", 28), ("eczema", 9)]
    assert len(dropped) == summary["dropped"]["not an image"] == 20
    assert summary["noticed"]["not_read"] == {}
    assert "dropped 20: not an image" in capsys.readouterr().out
    rng = np.random.default_rng(1)
    for path in suffixes.rglob("*.HEIC"):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path, "HEIF", quality=50)
    assert len(build(suffixes)[0]) == 57


def test_an_absent_reader_stops_with_the_command_that_installs_it(suffixes: Path, monkeypatch):
    """Dropped, they would be missing still when the reader is there: the settings would be the same."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._heic_reader.cache_clear()
    for on_bad in ("fail", "drop"):
        with pytest.raises(
            InputError, match=r"(?s)20 of 57 images are HEIC.*pip install 'skinaug\[heic\]'.*IMG_0"
        ):
            build(suffixes, on_bad=on_bad)


def test_files_without_a_suffix_are_read_by_content_and_others_are_counted(draw, capsys):
    root = draw("a/0.png").parents[1]
    for number in range(1, 8):
        draw(f"a/{number}.jpe", "JPEG")
        draw(f"b/{number}.avif")
        draw(f"b/{number}", "TIFF")
    for name in ("a/x.gif", "b/y.GIF", "b/scan.dcm", "LICENSE", "notes.txt", "table.csv", ".hidden.gif"):
        (root / name).write_bytes(b"GIF89a, or whatever")
    manifest, summary, _ = build(root)
    assert len(manifest) == 22
    assert summary["noticed"] == {"not_read": {".gif": 2, ".dcm": 1, "without a suffix": 1}}
    assert "not read: 2 .gif, 1 .dcm, 1 without a suffix." in capsys.readouterr().out


def test_a_folder_of_nothing_that_can_be_read_says_what_it_holds(tmp_path: Path):
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(b"DICM")
    with pytest.raises(InputError, match=r"holds no images.*which are not read: 3 \.dcm"):
        check_root(Folder(), str(tmp_path), "dataset")


def test_a_table_tells_which_files_it_does_not_name(draw, capsys):
    root = draw("images/0.png").parents[1]
    rows = [
        {"file": f"{number}", "dx": "ab"[number % 2], "mask": f"masks/{number}.png"} for number in range(12)
    ]
    for number in range(16):
        draw(f"images/{number}.png")
        draw(f"masks/{number}.png")
    (root / "images" / "IMG_1.HEIC").write_bytes(STUB)
    (root / "images" / "old.gif").write_bytes(b"GIF89a")
    pl.DataFrame(rows).write_csv(root / "metadata.csv")
    columns = {"path": "file", "label": "dx", "mask": "mask"}
    manifest, summary, _ = build(root, Csv(columns, images="images"))
    assert len(manifest) == 12
    assert summary["noticed"]["not_read"] == {".png": 8, ".heic": 1, ".gif": 1}
    assert "8 .png, 1 .gif, 1 .heic" in capsys.readouterr().out


def test_broken_profiles_and_few_bits_are_counted(draw, capsys):
    root = draw("a/0.png").parents[1]
    for number in range(8):
        draw(f"a/{number}.png", icc_profile=b"no profile" if number < 6 else None)
        draw(f"b/{number}.png")
    for number in range(3):
        values = np.asarray(Image.open(root / f"b/{number}.png").convert("L"), np.uint16)
        Image.fromarray(values * (4 if number else 16)).save(root / f"b/{number}.png")
    manifest, summary, _ = build(root)
    noticed = summary["noticed"]
    assert len(manifest) == 16
    assert noticed["broken_profile"] == {"count": 6, "examples": [f"a/{number}.png" for number in range(5)]}
    assert noticed["12_bits"] == {"count": 1, "examples": ["b/0.png"]}
    assert noticed["10_bits"] == {"count": 2, "examples": ["b/1.png", "b/2.png"]}
    out = capsys.readouterr().out
    assert "values are taken for sRGB: 6 (a/0.png" in out
    assert "a/4.png, ...)" in out
    assert "Pictures of 16 bits that hold 10 or fewer" in out


def test_masks_taken_for_photographs_stop_a_study(draw, capsys):
    """A class of masks would be learned best of all."""
    root = draw("images/0.png").parents[1]
    for number in range(8):
        draw(f"images/{number}.png")
        shape = Image.new("1", (72, 72))
        shape.paste(1, (10 + number, 20, 40, 50 + number))
        (root / "masks").mkdir(exist_ok=True)
        shape.save(root / "masks" / f"{number}.png")
        draw(f"other/{number}.png")
    with pytest.raises(InputError, match="8 of 24 pictures are masks"):
        build(root)
    manifest, summary, _ = build(root, masks="drop")
    assert manifest.classes == ("images", "other")
    assert summary["dropped"] == {"mask": 8}
    assert "dropped 8: mask" in capsys.readouterr().out
    manifest, summary, _ = build(root, masks="keep")
    assert manifest.classes == ("images", "masks", "other")
    assert summary["noticed"]["masks"]["count"] == 8
    assert "look like masks, taken for photographs: 8 (masks/0.png" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"dataset\.masks=tell: choose fail, drop or keep"):
        build(root, masks="tell")
