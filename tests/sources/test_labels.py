"""Labels that are one-hot columns or lists, and names that stand elsewhere than the table says."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinaug.dataset.dataset import build_dataset
from skinaug.dataset.duplicates import Duplicates
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.sources.sources import Csv, Folder
from skinaug.sources.told import telling

rng = np.random.default_rng(0)


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(rng.integers(90, 230, (6, 6, 3), dtype=np.uint8))
    coarse.resize((72, 72), Image.Resampling.BICUBIC).save(path)


def write(root: Path, *rows: dict) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return root


def made(root: Path, source: Csv | Folder, **options) -> Manifest:
    out = root.parent / f"{root.name}_out"
    out.mkdir(exist_ok=True)
    build_dataset(source, str(root), out, duplicates=Duplicates(max_hamming=4), **options)
    return Manifest.read(out)


ONE_HOT = [
    {"image": "a", "age": "1", "MEL": "1.0", "NV": "0.0", "INF": "0.0", "male": "1"},
    {"image": "b", "age": "50", "MEL": "0.0", "NV": "1.0", "INF": "0.0", "male": "1"},
    {"image": "c", "age": "60", "MEL": "0.0", "NV": "0.0", "INF": "1.0", "male": "0"},
    {"image": "d", "age": "0", "MEL": "0.0", "NV": "0.0", "INF": "0.0", "male": "0"},
]


@pytest.mark.parametrize("columns", [{"path": "image"}, {"path": "image", "label": "label"}])
def test_one_hot_columns_are_recognised_and_read_as_the_message_says(tmp_path, columns):
    write(tmp_path, *ONE_HOT)
    option = r"'dataset\.source\.columns\.label={one_hot: \[MEL, NV, \"INF\"\]}'"
    with pytest.raises(InputError, match=rf"(?s)label.*{option}"):
        Csv(columns).load(tmp_path)
    table = Csv({"path": "image", "label": {"one_hot": ["MEL", "NV", "INF"]}}).load(tmp_path)
    assert table["label"].to_list() == ["MEL", "NV", "INF", None]


def test_other_columns_are_no_one_hot_labels(tmp_path):
    write(
        tmp_path,
        {"image": "a", "age": "1", "male": "1", "itch": "1"},
        {"image": "b", "age": "2", "male": "0", "itch": "1"},
    )
    with pytest.raises(InputError, match="label <- label") as caught:
        Csv({"path": "image", "label": "label"}).load(tmp_path)
    assert "one_hot" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "form", "read"),
    [
        (["['Eczema']", "['Eczema', 'Psoriasis']", "[]", ""], "list", ["Eczema", None, None, None]),
        (['["a"]', '["b"]', "['a', 'b']", "x"], "list", ["a", "b", None, None]),
        (
            ["{'Eczema': 0.6, 'Acne': 0.4}", "{'Acne': 1.0}", "{}", ""],
            "weights",
            ["Eczema", "Acne", None, None],
        ),
    ],
)
def test_list_labels_are_recognised_and_read_as_the_message_says(tmp_path, labels, form, read):
    write(tmp_path, *({"f": str(n), "conditions on": label} for n, label in enumerate(labels)))
    option = rf"'dataset\.source\.columns\.label={{{form}: \"conditions on\"}}'"
    with pytest.raises(InputError, match=rf"(?s)conditions on are .* such as .*{option}"):
        Csv({"path": "f", "label": "conditions on"}).load(tmp_path)
    assert Csv({"path": "f", "label": {form: "conditions on"}}).load(tmp_path)["label"].to_list() == read


def paths(root: Path, names: list[str], images: str = ".") -> tuple[list[str], list[str]]:
    write(root, *({"f": name, "y": "a"} for name in names))
    with telling() as lines:
        return Csv({"path": "f", "label": "y"}, images=images).load(root)["path"].to_list(), lines


def test_a_path_that_is_not_there_falls_back_to_stem_suffix_and_case(tmp_path):
    for name in ("here/one.png", "here/Two.JPG", "there/three.jpeg", "x/same.png", "y/same.png"):
        draw(tmp_path / name)
    asked = ["here/one.png", "/kaggle/input/two.jpg", "old/three.png", "three", "y/same.png", "gone/five.png"]
    found, lines = paths(tmp_path, asked)
    assert found[:2] == ["here/one.png", "here/Two.JPG"]
    assert found[3:] == ["there/three.jpeg", "y/same.png", "gone/five.png"], (
        "what is nowhere stays, for the check to report"
    )
    assert found[2] == "old/three.png", (
        "another name leads to that file: no two pictures may become one by a guess"
    )
    assert lines == [
        "1 paths of the table were found elsewhere, by the file's name: such as /kaggle/input/two.jpg at here/Two.JPG."
    ]
    found, lines = paths(tmp_path, ["a/one.png", "b/one.png", "here/Two.JPG", "other/two.jpg"])
    assert (found, lines) == (["a/one.png", "b/one.png", "here/Two.JPG", "other/two.jpg"], [])
    with pytest.raises(InputError, match=r"gone/same\.png: x/same\.png, y/same\.png"):
        paths(tmp_path, ["gone/same.png"])


def test_ids_that_fit_files_of_equal_content_are_one_image(tmp_path):
    """As people download HAM10000: every picture again, in folders whose names differ in case."""
    root, rows = tmp_path / "ham_twice", []
    for n in range(20):
        name = f"ISIC_{n:07}.jpg"
        draw(root / "HAM10000_images_part_1" / name)
        other = root / "ham10000_images_part_1" / name
        other.parent.mkdir(exist_ok=True)
        other.write_bytes((root / "HAM10000_images_part_1" / name).read_bytes())
        rows.append({"lesion_id": f"HAM_{n // 2:07}", "image_id": name[:-4], "dx": ("nv", "mel")[n // 2 % 2]})
    write(root, *rows)
    source = Csv({"path": "image_id", "label": "dx", "lesion_id": "lesion_id"})
    manifest = made(root, source)
    assert manifest.table["path"].str.split("/").list.first().unique().to_list() == ["HAM10000_images_part_1"]
    assert (len(manifest), manifest.table["group_id"].n_unique()) == (20, 10)
    with telling() as lines:
        source.load(root)
    assert lines[0].startswith(
        "20 files are copies of others with the same name: such as ham10000_images_part_1/ISIC_"
    )
    draw(root / "ham10000_images_part_1" / "ISIC_0000003.jpg")
    with pytest.raises(InputError, match=r"1 name .* different pictures.*\n\s+ISIC_0000003: "):
        source.load(root)


def test_ddi_is_read_with_its_pairs_of_types_and_its_truth_values(tmp_path):
    rows = []
    for n in range(36):
        draw(tmp_path / "ddi" / f"{n:06}.png")
        skin, age = ((12, "AGE_30_TO_39"), (34, "85+"), (56, "-1"))[n % 3]
        about = {
            "skin_tone": skin,
            "age": age,
            "malignant": ("TRUE", "FALSE")[n % 2],
            "patient": f"P{n // 2}",
        }
        rows.append({"DDI_file": f"{n:06}.png"} | about)
    root = write(tmp_path / "ddi", *rows)
    columns = {
        "path": "DDI_file",
        "label": "malignant",
        "skin_type": "skin_tone",
        "age": "age",
        "group_id": "patient",
    }
    with pytest.raises(
        InputError, match=r"such as 12, 34, 56\. .*source\.scales={skin_type: fitzpatrick_pairs}"
    ):
        made(root, Csv(columns))
    source = Csv(columns, scales={"skin_type": "fitzpatrick_pairs"}, told_by={"skin_type": "dermatologist"})
    manifest = made(root, source, classes=[True, False])
    assert manifest.classes == ("FALSE", "TRUE")
    told = manifest.table.select("skin_type", "age", "skin_type_told_by").unique().sort("skin_type").rows()
    assert told == [
        ("I-II", 35.0, "dermatologist"),
        ("III-IV", 85.0, "dermatologist"),
        ("V-VI", None, "dermatologist"),
    ]


def test_classes_in_letters_that_are_not_latin(tmp_path):
    for label in ("湿疹", "银屑病"):
        for n in range(8):
            draw(tmp_path / "skin" / label / f"{n}.png")
    manifest = made(tmp_path / "skin", Folder())
    assert manifest.classes == ("湿疹", "银屑病")
    assert manifest.table["label"].value_counts()["count"].to_list() == [8, 8]
    assert set(manifest.table["split"]) == {"train", "val", "test"}
