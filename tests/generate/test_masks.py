"""Where lesions are drawn on photographs, and which masks cannot be used. Distances are taken pixel by pixel here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.errors import InputError
from skinaug.generate.inpaint import Inpaint
from skinaug.generate.masks import Areas, Unusable, check_parents, composed, opacity, usable_parents
from skinaug.manifest import Manifest

SIZE = 64
SKIN, LESION = (214, 168, 144), (96, 52, 44)


def photograph(row: int = 24, column: int = 40, radius: float = 9, size: int = SIZE) -> np.ndarray:
    """A round lesion on skin of one colour."""
    y, x = np.mgrid[:size, :size]
    inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
    return np.where(inside[..., None], LESION, SKIN).astype(np.uint8)


def is_lesion(picture: np.ndarray) -> np.ndarray:
    return (picture == np.array(LESION)).all(-1)


def distances(area: np.ndarray) -> np.ndarray:
    """Each pixel's distance to the nearest one of an area."""
    places = np.argwhere(area)
    every = np.stack(np.mgrid[: area.shape[0], : area.shape[1]], axis=-1)
    return np.sqrt(((every[:, :, None] - places) ** 2).sum(-1)).min(-1)


def write_mask(file: Path, area: np.ndarray, **options) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(area.astype(np.uint8) * 255).save(file, **options)


@pytest.fixture
def photographs(make_manifest) -> Manifest:
    """Four with a lesion, of two classes."""
    real = make_manifest([{"label": label} for label in ("acne", "acne", "nevus", "nevus")], size=SIZE)
    for number, path in enumerate(real.paths()):
        Image.fromarray(photograph(column=20 + 8 * number)).save(path)
    return real


def masked(photographs: Manifest, areas: list[np.ndarray | None]) -> Manifest:
    """With a column `mask`."""
    names = []
    for number, area in enumerate(areas):
        names.append(None if area is None else f"masks/{number}.png")
        if area is not None:
            write_mask(photographs.root / names[-1], area)
    return photographs.with_table(photographs.table.with_columns(pl.Series("mask", names, dtype=pl.String)))


def lesions(photographs: Manifest) -> list[np.ndarray]:
    return [is_lesion(np.asarray(Image.open(path))) for path in photographs.paths()]


@pytest.mark.parametrize(("margin", "feather"), [(0.0, 0.0), (0.0, 0.05), (0.05, 0.03)])
def test_a_found_lesion_is_covered_and_little_else(margin: float, feather: float):
    picture = photograph()
    area = Areas(Inpaint(margin=margin, feather=feather), SIZE).area("a", picture, 0)
    lesion = is_lesion(picture)
    assert (opacity(area, feather)[lesion] == 1).mean() > 0.97
    reach = np.ceil(margin * SIZE) + round(feather * SIZE) + 3
    assert distances(lesion)[area].max() <= reach


@pytest.mark.parametrize("size", [16, 64, 128])
def test_a_drawn_ellipse_lies_on_clean_skin_and_follows_from_the_seed(size: int):
    picture = photograph(size=size, row=size // 3, column=size // 3, radius=size / 7)
    areas = Areas(Inpaint(mask="drawn", margin=0.05, diameter=(0.15, 0.4)), size)
    drawn = [areas.area("a", picture, seed) for seed in range(40)]
    for area in drawn:
        assert not (area & is_lesion(picture)).any()
        assert area.sum() <= np.pi * (0.2 * size + 1) ** 2
    assert len({area.tobytes() for area in drawn}) > 30
    assert np.array_equal(drawn[7], areas.area("b", picture, 7))
    places = np.stack([np.argwhere(area).mean(0) for area in drawn]) / size
    assert np.ptp(places, axis=0).min() > 0.4, "all over the skin"


def test_no_place_and_no_lesion():
    with pytest.raises(Unusable, match="no clean skin"):
        Areas(Inpaint(mask="drawn", diameter=(0.8, 0.9)), SIZE).area("a", photograph(), 0)
    with pytest.raises(Unusable, match="no lesion is found"):
        Areas(Inpaint(), SIZE).area("a", photograph(radius=0), 0)


@pytest.mark.parametrize("feather", [0.0, 0.02, 0.1])
def test_the_soft_edge_lies_inside(feather: float):
    rng, size = np.random.default_rng(0), 32
    parent, drawn = rng.integers(0, 256, (2, size, size, 3), np.uint8)
    area = is_lesion(photograph(size=size, column=20, radius=10))
    share = opacity(area, feather)
    assert ((share > 0) == area).all()
    assert (share[area & (distances(~area) >= round(feather * size) + 1)] == 1).all()
    picture = composed(parent, drawn, area, feather)
    assert (picture[~area] == parent[~area]).all()
    assert (picture[share == 1] == drawn[share == 1]).all()
    between = area & (share < 1)
    low, high = np.minimum(parent, drawn)[between], np.maximum(parent, drawn)[between]
    assert ((picture[between] >= low) & (picture[between] <= high)).all()


def test_masks_of_the_column_are_grown_and_those_of_a_folder_are_not(photographs: Manifest, tmp_path: Path):
    real = masked(photographs, lesions(photographs))
    parents, areas, _ = usable_parents(real, Inpaint(mask="column", margin=0.05, feather=0.0), SIZE)
    assert len(parents) == 4
    lesion = lesions(photographs)[0]
    assert np.array_equal(areas.area("i0", None, 0), distances(lesion) <= np.ceil(0.05 * SIZE))
    for number, area in enumerate(lesions(photographs)):
        write_mask(tmp_path / "given" / f"{number}_segmentation.png", area)
    _, areas, _ = usable_parents(photographs, Inpaint(mask=str(tmp_path / "given")), SIZE)
    assert np.array_equal(areas.area("i0", None, 0), lesion)


def test_masks_are_found_by_path_id_or_name(make_manifest, tmp_path: Path):
    rows = [{"label": "acne"} for _ in range(4)]
    real = make_manifest(rows, size=SIZE)
    paths = ["acne/1.png", "nevus/1.png", "acne/x.png", "acne/y.png"]
    real = real.with_table(real.table.with_columns(path=pl.Series(paths)))
    area = is_lesion(photograph())
    for name in ("acne/1.png", "nevus/1_mask.png", "i2.png", "elsewhere/y_lesion.png"):
        write_mask(tmp_path / "given" / name, area)
    _, areas, faults = usable_parents(real, Inpaint(mask=str(tmp_path / "given")), SIZE)
    found = {name: path.relative_to(tmp_path / "given").as_posix() for name, path in areas.given.items()}
    assert found == {
        "i0": "acne/1.png", "i1": "nevus/1_mask.png", "i2": "i2.png", "i3": "elsewhere/y_lesion.png",
    }  # fmt: skip
    assert not faults


def test_masks_that_cannot_be_used_are_told_in_one_message(make_manifest, tmp_path: Path):
    real = make_manifest([{"label": "acne"} for _ in range(9)], size=SIZE)
    area, folder = is_lesion(photograph()), tmp_path / "given"
    write_mask(folder / "0.png", area)
    write_mask(folder / "1.png", area[:32])
    write_mask(folder / "2.png", np.zeros_like(area))
    write_mask(folder / "3.png", np.ones_like(area))
    Image.fromarray(np.tile(np.arange(0, 256, 4, np.uint8), (SIZE, 1))).save(folder / "4.png")
    (folder / "5.png").write_bytes(b"no picture")
    write_mask(folder / "a" / "6.png", area)
    write_mask(folder / "b" / "6.png", area)
    write_mask(folder / "7.jpg", area, quality=60)
    asked = Inpaint(mask=str(folder))
    with pytest.raises(InputError) as caught:
        usable_parents(real, asked, SIZE)
    message = str(caught.value)
    assert message.startswith("7 of 9 training photographs have no mask")
    for name, fault in {
        "i1": "another size than its photograph",
        "i2": "empty in the central square",
        "i3": "covers everything",
        "i4": "more than two values",
        "i5": "cannot be read",
        "i6": "several masks",
        "i8": "no mask",
    }.items():
        assert f"  {name}: {fault}\n" in message
        assert f"{fault}: 1" in message
    parents, _, faults = usable_parents(real, Inpaint(mask=str(folder), on_bad="drop"), SIZE)
    assert parents.table["image_id"].to_list() == ["i0", "i7"]
    assert faults.total() == 7
    with pytest.raises(InputError, match=r"no training photograph .* for: nevus"):
        check_parents(real, Inpaint(mask=str(folder), on_bad="drop"), ("acne", "nevus"), SIZE)


def test_photographs_without_a_lesion_are_left_out_with_a_count(photographs: Manifest):
    Image.fromarray(photograph(radius=0)).save(photographs.paths()[1])
    parents, _, faults = usable_parents(photographs, Inpaint(), SIZE)
    assert parents.table["image_id"].to_list() == ["i0", "i2", "i3"]
    assert faults == {"no lesion is found": 1}
    check_parents(photographs, Inpaint(), ("acne", "nevus"), SIZE)
    Image.fromarray(photograph(radius=0)).save(photographs.paths()[0])
    with pytest.raises(InputError, match=r"no training photograph .* for: acne .*mask=drawn"):
        check_parents(photographs, Inpaint(), ("acne", "nevus"), SIZE)


def test_a_parent_of_another_class_has_its_lesion_covered(photographs: Manifest, tmp_path: Path):
    """By the column's masks always; by a folder's only where they reach beyond the lesion by the soft edge."""
    classes, own = ("acne", "nevus"), lesions(photographs)
    real = masked(photographs, own)
    _, areas, faults = usable_parents(real, Inpaint(mask="column", parent_classes="any", feather=0.03), SIZE)
    assert not faults
    for number, lesion in enumerate(own):
        assert (opacity(areas.area(f"i{number}", None, 0), 0.03)[lesion] == 1).all()
    folder = tmp_path / "given"
    asked = Inpaint(mask=str(folder), parent_classes="any", feather=0.03)
    for number, lesion in enumerate(own):
        write_mask(folder / f"{number}.png", distances(lesion) <= (4 if number else 1))
    with pytest.raises(InputError, match=r"^1 of 4 .*\n  i0: does not cover its own lesion\n"):
        check_parents(real, asked, classes, SIZE)
    write_mask(folder / "0.png", np.roll(distances(own[0]) <= 4, 20, axis=1))
    with pytest.raises(InputError, match="i0: does not cover its own lesion"):
        check_parents(real, asked, classes, SIZE)
    write_mask(folder / "0.png", distances(own[0]) <= 4)
    check_parents(real, asked, classes, SIZE)
    unknown = masked(photographs, [own[0], own[1], np.zeros_like(own[2]), None])
    with pytest.raises(InputError, match=r"i2: no mask of its own lesion\n  i3: no mask of its own lesion"):
        check_parents(unknown, asked, classes, SIZE)
    with pytest.raises(InputError, match="column `mask`, which they lack"):
        check_parents(photographs, asked, classes, SIZE)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"mask": "column"}, "the data have no column `mask`"),
        ({"parent_classes": ["healthy"]}, "names healthy, and the data have acne, nevus"),
    ],
)
def test_what_the_data_do_not_have(photographs: Manifest, asked: dict, message: str):
    with pytest.raises(InputError, match=message):
        check_parents(photographs, Inpaint(**asked), ("acne", "nevus"), SIZE)
