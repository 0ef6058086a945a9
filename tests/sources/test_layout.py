"""Folders as they come: what lies in them tells how they are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.errors import InputError
from skinaug.manifest import GIVEN
from skinaug.sources.layout import read_images


def draw(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def table_of(root: Path, kind: str = "real") -> pl.DataFrame:
    manifest, pictures, dropped = read_images(root, kind, 32, "fail")
    assert (len(pictures), dropped.height) == (len(manifest), 0)
    return manifest.table.sort("path")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a.png", "b.png"], ["images", "images"]),
        (["acne/a.png", "nevus/b.png"], ["acne", "nevus"]),
        (["train/acne/a.png", "val/nevus/b.png"], ["acne", "nevus"]),
    ],
)
def test_folders_are_classes_or_one_class(tmp_path: Path, names: list[str], labels: list[str]):
    table = table_of(draw(tmp_path, *names))
    assert table["label"].to_list() == labels
    assert table["split"].to_list() == ["train", "val" if "val" in names[1] else "train"]
    assert table["image_id"].to_list() == [f"real/{name}" for name in names]


def test_tables_tell_classes_patients_and_attributes(tmp_path: Path):
    csv = draw(tmp_path / "csv", "x/a.png", "x/b.png")
    (csv / "metadata.csv").write_text(
        "path,label,group_id,skin_type\nx/a.png,acne,p1,2\nx/b.png,nevus,p1,V\n"
    )
    hugging = draw(tmp_path / "hf", "a.png", "b.png")
    rows = [{"file_name": name, "sex": "F"} for name in ("a.png", "b.png")]
    (hugging / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = table_of(csv)
    assert table["group_id"].to_list() == ["p1", "p1"]
    assert table["skin_type"].to_list() == ["II", "V"]
    made = table_of(hugging, "synthetic")
    assert made["sex"].to_list() == ["female", "female"]
    assert made["label"].to_list() == ["images", "images"], "of one class, where nothing names classes"
    assert set(made["weights"]) == {GIVEN}
    assert made["group_id"].to_list() == made["image_id"].to_list()


def test_a_table_of_other_columns_is_named(tmp_path: Path):
    (draw(tmp_path, "a.png") / "metadata.csv").write_text("picture,kind\na.png,acne\n")
    with pytest.raises(InputError, match=r"has the columns picture, kind; it needs `file_name`, or `path`"):
        table_of(tmp_path)


def test_what_is_dropped_is_told(tmp_path: Path):
    (draw(tmp_path, "acne/a.png") / "acne" / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="1 of 2 images cannot be used"):
        read_images(tmp_path, "real", 32, "fail")
    manifest, _, dropped = read_images(tmp_path, "real", 32, "drop")
    assert (len(manifest), dropped["path"].to_list()) == (1, ["acne/b.png"])
