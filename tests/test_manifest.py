"""The table between stages: validation, files, exports."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from skinaug.dataset.imagefolder import INFO, from_imagefolder, to_imagefolder
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
    with pytest.raises(InputError, match="no manifest schema"):
        Manifest.read(tmp_path)


def test_a_manifest_of_a_later_schema_is_told(tmp_path: Path, make_manifest):
    path = make_manifest(ROWS).write(tmp_path)
    later = {**pq.read_schema(path).metadata, b"schema_version": b"2"}
    pq.write_table(pq.read_table(path).replace_schema_metadata(later), path)
    with pytest.raises(
        InputError, match=r"schema 2; this version reads 1\. Install the skinaug that wrote it"
    ):
        Manifest.read(path)


def test_columns_of_other_types_are_named_at_once(make_manifest):
    table = make_manifest(ROWS).table.with_columns(width=pl.lit("wide"), age=pl.lit("old"), parents=pl.lit(3))
    with pytest.raises(
        InputError, match=r"(?s)width must be Int32.*age must be a number.*parents must be a list"
    ):
        Manifest(table, Path("/data"), ("acne", "nevus"))


def test_a_damaged_manifest_is_refused(make_manifest, tmp_path: Path):
    path = make_manifest(ROWS).write(tmp_path)
    whole, about = path.read_bytes(), pq.read_schema(path).metadata
    for damaged in (b"", b"PAR1", whole[:-40], whole[:-1] + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="no manifest that can be read"):
            Manifest.read(path)
    path.write_bytes(whole)
    for lacking in (b"root", b"classes"):
        rest = {name: value for name, value in about.items() if name != lacking}
        pq.write_table(pq.read_table(path).replace_schema_metadata(rest), path)
        with pytest.raises(InputError, match=lacking.decode()):
            Manifest.read(path)
        path.write_bytes(whole)
    pq.write_table(pq.read_table(path).replace_schema_metadata(about | {b"classes": b'"acne"'}), path)
    with pytest.raises(InputError, match="list of class names"):
        Manifest.read(path)


def test_links_out_of_the_root_are_named_and_not_followed(make_manifest, tmp_path: Path):
    manifest = make_manifest(ROWS)
    secret = tmp_path / "secret.png"
    manifest.paths()[0].rename(secret)
    (manifest.root / "0.png").symlink_to(secret)
    (manifest.root / "inside.png").symlink_to("1.png")
    with pytest.raises(InputError, match=r"(?s)1 image .*0\.png"):
        manifest.paths()
    linked = manifest.table.with_columns(path=pl.lit("inside.png"))
    assert all(path.is_file() for path in manifest.with_table(linked).paths())


@pytest.mark.parametrize("changes", [{"image_id": "../../up"}, {"image_id": "/up"}, {"label": ".."}])
def test_labels_and_ids_do_not_lead_an_export_out_of_its_folder(make_manifest, tmp_path: Path, changes: dict):
    manifest = make_manifest([{"label": "acne"}, {"label": "nevus"} | changes])
    with pytest.raises(InputError, match="cannot be a name of files"):
        to_imagefolder(manifest, tmp_path / "deep" / "export")
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("about", ["", "{}", '{"dtypes": {"label": "read_csv"}}', '{"dtypes": []}'])
def test_an_import_of_something_else_is_refused(make_manifest, tmp_path: Path, about: str):
    folder = to_imagefolder(make_manifest(ROWS), tmp_path / "export")
    (folder / INFO).write_text(about)
    with pytest.raises(InputError, match="not as an exported manifest"):
        from_imagefolder(folder)


def test_imagefolder_round_trip_and_hugging_face_reads_it(make_manifest, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    manifest = make_manifest(ROWS)
    folder = to_imagefolder(manifest, tmp_path / "export")
    again = from_imagefolder(folder)
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
        to_imagefolder(manifest, folder)
