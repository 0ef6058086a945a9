"""Masks are told from photographs by their values and by their names, and no photograph is called one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw

from skinaug.errors import InputError
from skinaug.sources.check import check_images, usable_images
from skinaug.sources.masks import find_masks


def photograph(seed: int, size: int = 72) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(60, 230, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def mask(mode: str = "L") -> Image.Image:
    picture = Image.new("L", (72, 72))
    ImageDraw.Draw(picture).ellipse((20, 15, 50, 60), fill=255)
    return picture.convert(mode)


def dermoscopic() -> Image.Image:
    """Black corners about a grey lesion, without colour: the least like a photograph that a photograph is."""
    y, x = np.mgrid[-1:1:72j, -1:1:72j]
    lesion = np.where(np.hypot(x, y) < 0.5, 70, 190) + 20 * np.sin(9 * x)
    return Image.fromarray(np.where(np.hypot(x, y) < 1, lesion, 0).astype(np.uint8))


FILES = {  # file -> what it is, and whether it is a mask
    "set/ISIC_1.jpg": (photograph(1), False),
    "set/ISIC_1_segmentation.png": (mask("1"), True),
    "set/ISIC_2.jpg": (photograph(2), False),
    "masks/ISIC_2.jpg": (mask(), True),  # no name tells, and compression blurs its two values
    "set/ISIC_2_superpixels.png": (photograph(3), True),  # numbers as colours
    "IMD3/IMD3.bmp": (photograph(4), False),
    "lesion/IMD3_LESION.bmp": (mask("RGB"), True),
    "set/ISIC_4.jpg": (photograph(5), False),
    "set/ISIC_4_mask.png": (Image.linear_gradient("L").resize((72, 72)), True),  # soft
    "set/ISIC_4_lesion.jpg": (photograph(6), False),  # a close-up
    "set/tumour_mask.jpg": (photograph(7), False),  # a twin of nothing
    "set/grey.png": (dermoscopic(), False),
    "set/black.png": (Image.new("RGB", (72, 72)), False),
    "set/white on black.png": (Image.new("L", (72, 72)), False),
    "set/palette.png": (mask().quantize(2), True),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, (picture, _) in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / name, quality=70)
    return tmp_path


def test_masks_are_found_and_photographs_are_not(root: Path):
    pictures, bad = check_images(root, list(FILES))
    found = find_masks(list(FILES), pictures)
    assert bad == {}
    assert found.keys() == {name for name, (_, is_mask) in FILES.items() if is_mask}
    assert found["lesion/IMD3_LESION.bmp"] == "of IMD3/IMD3.bmp"
    assert found["masks/ISIC_2.jpg"] == "two values alone"


def test_masks_stop_a_study_are_dropped_or_kept(root: Path):
    table = pl.DataFrame({"path": list(FILES)})
    masks = [name for name, (_, is_mask) in FILES.items() if is_mask]
    with pytest.raises(InputError, match=r"(?s)6 of 15 pictures are masks.*ISIC_1_segmentation.*masks=drop"):
        usable_images(root, table, 32, "fail", "fail")
    kept, pictures, dropped = usable_images(root, table, 32, "fail", "drop")
    assert dropped["path"].to_list() == masks
    assert dropped["reason"].str.starts_with("mask: ").all()
    assert kept["path"].to_list() == [name for name in FILES if name not in masks]
    assert len(pictures) == len(kept)
    assert len(usable_images(root, table, 32, "fail", "keep")[0]) == len(FILES)
    with pytest.raises(InputError, match="2 of 2 pictures are masks"):  # nothing else is left
        usable_images(root, table.filter(pl.col("path").is_in(masks[:2])), 32, "fail", "drop")


def test_no_photograph_is_called_a_mask(pad_ufes_20: Path):
    paths = [path.relative_to(pad_ufes_20).as_posix() for path in sorted(pad_ufes_20.rglob("*.png"))[:60]]
    paths += [path.relative_to(pad_ufes_20).as_posix() for path in sorted(pad_ufes_20.rglob("*.jpg"))[:60]]
    assert find_masks(paths, check_images(pad_ufes_20, paths)[0]) == {}
