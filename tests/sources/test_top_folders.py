"""Folders above the classes: splits where their names say so, asked for where they leave it open."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from skinaug.errors import InputError
from skinaug.sources.layout import read_images
from skinaug.sources.sources import Folder, ImageFolder
from skinaug.sources.told import telling

DERMMEL = ["train_sep", "valid", "test"]  # as downloaded
SPLITS = {"train_sep": "train", "valid": "val", "test": "test"}


def draw(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(root / name)
    return root


def dermmel(root: Path, tops: list[str]) -> Path:
    return draw(root, *(f"{top}/{label}/{top}.png" for top in tops for label in ("Melanoma", "NotMelanoma")))


def test_splits_under_names_of_their_own_are_asked_for_and_then_taken(tmp_path: Path):
    dermmel(tmp_path, DERMMEL)
    with pytest.raises(InputError) as refused:
        Folder().load(tmp_path)
    assert "train_sep: 2 images in Melanoma, NotMelanoma" in str(refused.value)
    option = re.search(r"'dataset\.source\.splits=(\{.*\})'", str(refused.value))
    assert option
    proposed = dict(pair.split(": ") for pair in option[1].strip("{}").split(", "))
    assert proposed == SPLITS
    table = Folder(splits=proposed).load(tmp_path)
    assert set(table["label"]) == {"Melanoma", "NotMelanoma"}
    assert dict(table.select("path", "split").iter_rows()) == {
        f"{top}/{label}/{top}.png": split
        for top, split in SPLITS.items()
        for label in ("Melanoma", "NotMelanoma")
    }


@pytest.mark.parametrize("inside", ["", "acne/"])
def test_a_folder_beside_train_and_test_is_left_out_with_a_count(tmp_path: Path, inside: str):
    draw(tmp_path, *(f"{top}/{label}/a.png" for top in ("train", "test") for label in ("acne", "eczema")))
    draw(tmp_path, *(f"augmented/{inside}{number}.png" for number in range(3)))
    with pytest.raises(InputError, match=r"splits=\{augmented: null, test: test, train: train\}"):
        Folder().load(tmp_path)
    with telling() as told:
        table = Folder(splits={"train": "train", "test": "test", "augmented": None}).load(tmp_path)
    assert told == ["left out 3 images in augmented/, as source.splits says"]
    assert table.select("path", "label", "split").rows() == [
        (f"{top}/{label}/a.png", label, top) for top in ("test", "train") for label in ("acne", "eczema")
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["test/a.png", "control/b.png"],  # classes of an experiment
        ["test/P1/a.png", "control/P2/b.png"],  # and a folder a patient below
        ["acne/close/a.png", "eczema/close/b.png"],  # no name of a split
        ["attested/x/a.png", "contest/x/b.png"],  # nor of words that hold one
    ],
)
def test_classes_are_not_taken_for_splits(tmp_path: Path, names: list[str]):
    table = Folder().load(draw(tmp_path, *names))
    assert table["label"].to_list() == [name.split("/")[0] for name in sorted(names)]
    assert "split" not in table.columns


@pytest.mark.parametrize(
    "tops", [["Train-Set", "TestImages"], ["training_data", "val2017"], ["trainset", "other"]]
)
def test_names_that_sound_like_splits_are_asked_for(tmp_path: Path, tops: list[str]):
    with pytest.raises(InputError, match="may be splits or classes"):
        Folder().load(dermmel(tmp_path, tops))


def test_classes_may_be_said_to_be_classes(tmp_path: Path):
    table = Folder(splits={}).load(dermmel(tmp_path, DERMMEL))
    assert set(table["label"]) == set(DERMMEL)
    assert "split" not in table.columns


def test_a_root_one_folder_too_high_is_told(tmp_path: Path):
    dermmel(tmp_path / "archive", ["train", "test"])
    with pytest.raises(InputError, match=f"(?s)is {tmp_path}/archive the folder that is meant"):
        Folder().load(tmp_path)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train_sep": "train", "valid": "val"}, "the folders under .* are test, train_sep, valid"),
        ({**SPLITS, "gone": "test"}, "tells of train_sep, valid, test, gone"),
        ({**SPLITS, "test": "exam"}, "has test: exam: choose train, val, test or null"),
    ],
)
def test_splits_that_do_not_fit_the_folders_are_refused(tmp_path: Path, splits: dict[str, str], message: str):
    with pytest.raises(InputError, match=message):
        Folder(splits=splits).load(dermmel(tmp_path, DERMMEL))


def imagefolder(root: Path, tops: list[str]) -> Path:
    for top in tops:
        draw(root, *(f"{top}/{top}{number}.png" for number in range(2)))
        rows = [{"file_name": f"{top}{number}.png", "label": "ab"[number]} for number in range(2)]
        (root / top / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_an_imagefolder_asks_too(tmp_path: Path):
    imagefolder(tmp_path, DERMMEL)
    with pytest.raises(InputError, match=r"splits=\{test: test, train_sep: train, valid: val\}"):
        ImageFolder().load(tmp_path)
    with telling() as told:
        table = ImageFolder(splits={**SPLITS, "valid": None}).load(tmp_path)
    assert told == ["left out 2 images in valid/, as source.splits says"]
    assert dict(table.select("path", "split").iter_rows()) == {
        f"{top}/{top}{number}.png": SPLITS[top] for top in ("train_sep", "test") for number in range(2)
    }


def test_folders_of_an_audit_have_no_option_and_are_told_otherwise(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"(?s)may be splits or classes.*Rename the splits .* real="
    ) as refused:
        read_images(dermmel(tmp_path, DERMMEL), "real", 32, "fail")
    assert "dataset.source" not in str(refused.value)


@pytest.mark.parametrize("above", ["photos", "archive/photos"])
def test_a_root_above_the_one_of_the_classes_is_told_with_what_was_found(tmp_path: Path, above: str):
    draw(tmp_path, *(f"{above}/{name}.png" for name in ("acne/1", "acne/2", "eczema/more/3")))
    with telling() as told:
        table = Folder().load(tmp_path)
    (line,) = told
    assert set(table["label"]) == {Path(above).parts[0]}
    assert f"1 class is found, {Path(above).parts[0]} (3)" in line
    assert f"{above} holds acne (2), eczema (1)." in line
    meant = re.search(r"did you mean root=(.+)\?$", line)
    assert meant
    with telling() as told:
        assert set(Folder().load(Path(meant[1]))["label"]) == {"acne", "eczema"}
    assert told == []


def test_folders_below_one_of_several_classes_are_told(tmp_path: Path):
    draw(tmp_path, "photos/acne/a.png", "photos/eczema/b.png", "paper/c.png")
    with telling() as told:
        Folder().load(tmp_path)
    assert len(told) == 1
    assert "2 classes are found, paper (1), photos (2)" in told[0]
    assert "photos holds acne (1), eczema (1)." in told[0]


def test_a_root_that_is_one_class_is_told_the_folder_above(tmp_path: Path):
    draw(tmp_path, "acne/a.png", "acne/b.png")
    with pytest.raises(
        InputError, match=f"(?s)If acne is itself a class, give the folder above it: {tmp_path}"
    ):
        Folder().load(tmp_path / "acne")
