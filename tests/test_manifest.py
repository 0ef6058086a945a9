"""The table between stages: validation, files, exports."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from skinaug.errors import InputError
from skinaug.manifest import Manifest

ROWS = [
    {"label": "acne", "skin_type": "II"},
    {"label": "acne", "split": "val", "skin_type": None},
    {"label": "nevus", "split": "test", "skin_type": "V"},
]


def test_round_trip_by_parquet(make_manifest, tmp_path: Path):
    manifest = make_manifest(ROWS)
    again = Manifest.read(manifest.write(tmp_path))
    assert again.table.equals(manifest.table)
    assert (again.root, again.classes, again.licence, again.citation) == (
        manifest.root,
        ("acne", "nevus"),
        "CC0",
        "nobody",
    )
    assert again.digest == manifest.digest


def test_a_root_inside_the_folder_moves_with_it(make_manifest, tmp_path: Path):
    make_manifest(ROWS, root=tmp_path / "work" / "images").write(tmp_path / "work")
    os.rename(tmp_path / "work", tmp_path / "published")
    assert all(path.is_file() for path in Manifest.read(tmp_path / "published").paths())


def test_every_bad_row_is_named_at_once(make_manifest):
    table = make_manifest(ROWS).table
    bad = pl.concat([table, table.head(1)]).with_columns(
        split=pl.Series(["train", "dev", "test", "test"]),
        path=pl.Series(["../up.png", "b.png", "/abs.png", "d.png"]),
        label=pl.Series(["acne", "acne", "eczema", None]),
    )
    with pytest.raises(InputError) as error:
        Manifest(bad, Path("/data"), ("acne", "nevus"))
    for expected in (
        "repeats an image_id",
        "label outside",
        "split outside",
        "not inside the root",
        "no value",
        "several splits",
    ):
        assert expected in str(error.value)


def test_synthetic_rows_need_their_provenance_and_only_train(make_manifest):
    table = make_manifest(ROWS).table.with_columns(source=pl.lit("synthetic"))
    with pytest.raises(InputError, match="outside the train split"):
        Manifest(table, Path("/data"), ("acne", "nevus"))
    with pytest.raises(InputError, match="lacks one of"):
        Manifest(table.with_columns(split=pl.lit("train")), Path("/data"), ("acne", "nevus"))


def test_concat_joins_different_roots(make_manifest, tmp_path: Path):
    first = make_manifest(ROWS, root=tmp_path / "a")
    second = make_manifest(
        [{"label": "nevus", "image_id": "z", "group_id": "z", "age": 3.0}],
        root=tmp_path / "b" / "c",
        classes=("acne", "nevus"),
    )
    both = Manifest.concat([first, second])
    assert both.root == tmp_path
    assert both.paths() == first.paths() + second.paths()
    assert all(path.is_file() for path in both.paths())
    with pytest.raises(InputError, match="different classes"):
        Manifest.concat([first, make_manifest([{"label": "other"}], root=tmp_path / "d")])


def test_digest_ignores_row_order_and_place(make_manifest, tmp_path: Path):
    manifest = make_manifest(ROWS)
    moved = Manifest(manifest.table.reverse(), tmp_path / "elsewhere", manifest.classes)
    assert moved.digest == manifest.digest
    relabelled = manifest.table.with_columns(label=pl.lit("acne"))
    assert manifest.with_table(relabelled).digest != manifest.digest


def test_missing_manifest_and_schema(tmp_path: Path, make_manifest):
    with pytest.raises(InputError, match="no manifest"):
        Manifest.read(tmp_path)
    make_manifest(ROWS).table.write_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(InputError, match="schema"):
        Manifest.read(tmp_path)


def test_imagefolder_round_trip_and_hugging_face_reads_it(make_manifest, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    manifest = make_manifest(ROWS)
    folder = manifest.to_imagefolder(tmp_path / "export")
    again = Manifest.from_imagefolder(folder)
    assert again.classes == manifest.classes
    columns = [name for name in manifest.table.columns if name != "path"]
    assert (
        again.table.sort("image_id").select(columns).equals(manifest.table.sort("image_id").select(columns))
    )
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 1, "validation": 1, "test": 1}
    assert loaded["test"][0]["image"].size == (16, 16)
    assert loaded["test"][0]["skin_type"] == "V"
    with pytest.raises(InputError, match="not empty"):
        manifest.to_imagefolder(folder)
