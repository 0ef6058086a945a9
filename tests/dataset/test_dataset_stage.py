"""The stage from a folder of files to its manifest, summary and lists of what was left out."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.dataset.dataset import build_dataset
from skinaug.dataset.duplicates import Duplicates
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.sources.patients import advice
from skinaug.sources.sources import Csv, Folder, PadUfes20

HASH_ONLY = Duplicates(max_hamming=4)


def picture(seed: int, size: int = 64) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of twelve pictures, from patients with two each."""
    for label_number, label in enumerate(["acne", "eczema"]):
        (tmp_path / "root" / label).mkdir(parents=True)
        for number in range(12):
            path = tmp_path / "root" / label / f"P{label_number}{number // 2}_{number}.png"
            picture(100 * label_number + number).save(path)
    return tmp_path / "root"


def build(root: Path, source=None, **options) -> tuple[Manifest, dict, pl.DataFrame]:
    out = root.parent / "out"
    out.mkdir(exist_ok=True)
    source = source or Folder(r"(P\d+)_", licence="CC0", citation="nobody")
    build_dataset(source, str(root), out, **{"duplicates": HASH_ONLY, **options})
    return (
        Manifest.read(out),
        json.loads((out / "summary.json").read_text()),
        pl.read_csv(out / "dropped.csv"),
    )


def test_clean_folder(root, capsys):
    manifest, summary, dropped = build(root)
    assert len(manifest) == 24
    assert manifest.classes == ("acne", "eczema")
    assert (manifest.licence, manifest.citation) == ("CC0", "nobody")
    assert all(path.is_file() for path in manifest.paths())
    assert manifest.table["group_id"].n_unique() == 12
    assert summary["images"] == 24
    assert summary["patients"] == 12
    cells = [cell for splits in summary["classes"].values() for cell in splits.values()]
    assert sum(cell["images"] for cell in cells) == 24
    assert all(cell["images"] == 2 * cell["patients"] for cell in cells)
    assert dropped.is_empty()
    shown = capsys.readouterr().out
    assert "acne" in shown
    for cell in cells:
        assert f"{cell['images']} / {cell['patients']}" in shown


def test_same_input_same_manifest(root):
    assert build(root)[0].digest == build(root)[0].digest
    assert build(root)[0].digest != build(root, seed=1)[0].digest


def test_near_copies_of_two_patients_share_a_split(root):
    picture(0).resize((48, 48)).save(root / "acne" / "P90_copy.jpg", quality=80)
    manifest, summary, dropped = build(root)
    groups = dict(manifest.table.select("path", "group_id").iter_rows())
    assert groups["acne/P90_copy.jpg"] == groups["acne/P00_0.png"] == groups["acne/P00_1.png"] == "P00"
    assert summary["near_copies"] == summary["near_copies_across_patients"] == 1
    assert dropped.is_empty()
    near = pl.read_csv(root.parent / "out" / "duplicates.csv").row(0, named=True)
    assert {near["path"], near["other_path"]} == {"acne/P90_copy.jpg", "acne/P00_0.png"}


def test_identical_pictures_with_two_labels_are_all_dropped(root):
    picture(0).save(root / "eczema" / "P91_0.png")
    _, summary, dropped = build(root)
    assert dropped.sort("path").rows() == [
        ("acne/P00_0.png", "same picture with different labels: acne, eczema"),
        ("eczema/P91_0.png", "same picture with different labels: acne, eczema"),
    ]
    assert summary["images"] == 23
    assert summary["dropped"] == {"same picture with different labels": 2}


def color(manifest: Manifest) -> np.ndarray:
    """A stand-in for a network: the picture at 5 x 5, around its mean."""
    images = [
        Image.open(path).convert("RGB").resize((5, 5), Image.Resampling.BOX) for path in manifest.paths()
    ]
    pixels = np.stack([np.asarray(image, np.float32).reshape(-1) for image in images])
    return pixels - pixels.mean(axis=1, keepdims=True)


def test_one_picture_saved_anew_with_another_label_is_dropped_too(root):
    picture(0).resize((48, 48)).save(root / "eczema" / "P91_0.jpg", quality=90)
    picture(1).resize((48, 48)).save(root / "acne" / "P92_0.jpg", quality=90)
    manifest, summary, dropped = build(root, duplicates=Duplicates(embed=color))
    assert set(dropped["path"]) == {"acne/P00_0.png", "eczema/P91_0.jpg"}
    assert summary["near_copies"] == 2
    assert "acne/P92_0.jpg" in manifest.table["path"]  # one label: kept, with its patient
    with pytest.raises(InputError, match=r"acne/P00_0\.png is acne, eczema/P91_0\.jpg is eczema"):
        build(root, duplicates=Duplicates(embed=color, conflicts="fail"))


def test_conflicts_can_fail_or_stay(root):
    picture(0).save(root / "eczema" / "P91_0.png")
    message = r"(?s)1 picture .*acne/P00_0\.png is acne, eczema/P91_0\.png is eczema"
    with pytest.raises(InputError, match=message):
        build(root, duplicates=Duplicates(conflicts="fail"))
    manifest, *_ = build(root, duplicates=Duplicates(conflicts="keep", max_hamming=None))
    groups = dict(manifest.table.select("path", "group_id").iter_rows())
    assert groups["acne/P00_0.png"] == groups["eczema/P91_0.png"]


def test_copies_with_one_label_leave_one(root):
    picture(0).save(root / "acne" / "P92_0.bmp")
    manifest, summary, dropped = build(root)
    assert dropped.rows() == [("acne/P92_0.bmp", "copy: of acne/P00_0.png")]
    assert len(manifest) == 24
    assert summary["near_copies"] == 0
    assert len(build(root, duplicates=Duplicates(copies="keep"))[0]) == 25
    assert len(build(root, duplicates=None)[0]) == 25


def test_bad_files_fail_together_or_are_dropped(root):
    (root / "acne" / "P00_bad.png").write_text("no image")
    Image.new("RGB", (8, 8)).save(root / "eczema" / "P10_tiny.png")
    with pytest.raises(InputError, match=r"(?s)2 of 26 .*P00_bad\.png: not an image.*P10_tiny\.png: tiny"):
        build(root)
    manifest, summary, dropped = build(root, on_bad="drop")
    assert len(manifest) == 24
    assert dropped["path"].to_list() == ["acne/P00_bad.png", "eczema/P10_tiny.png"]
    assert summary["dropped"] == {"not an image": 1, "tiny": 1}


def test_classes_chooses(root):
    manifest, *_ = build(root, classes=["acne"])
    assert manifest.classes == ("acne",)
    with pytest.raises(InputError, match="rosacea; the data has acne, eczema"):
        build(root, classes=["acne", "rosacea"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad": "ignore"}, r"dataset\.on_bad=ignore"),
        ({"val_fraction": 0.9}, r"dataset\.val_fraction=0\.9"),
    ],
)
def test_wrong_options(root, options, message):
    with pytest.raises(InputError, match=message):
        build(root, **options)


def test_csv_paths_that_climb_out_are_refused(root):
    (root / "metadata.csv").write_text("path,label\n../secret.png,acne\nacne/P00_0.png,acne\n")
    with pytest.raises(InputError, match=r"(?s)1 of 2.*\.\./secret\.png: leads out of the root"):
        build(root, source=Csv({"path": "path", "label": "label"}))


def test_lesions_stand_in_for_patients(root):
    lines = [
        f"{path.relative_to(root).as_posix()},{path.parent.name},L{n // 4}"
        for n, path in enumerate(root.rglob("*.png"))
    ]
    (root / "metadata.csv").write_text("\n".join(["path,label,lesion", *lines]))
    manifest, *_ = build(root, source=Csv({"path": "path", "label": "label", "lesion_id": "lesion"}))
    assert manifest.table["group_id"].to_list() == manifest.table["lesion_id"].to_list()


def test_fixed_splits_that_share_a_near_copy_are_refused(root):
    for split in ("train", "val", "test"):
        for label in ("acne", "eczema"):
            (root.parent / "split" / split / label).mkdir(parents=True)
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        split = ("train", "val", "test")[number // 2 % 3]
        path.rename(root.parent / "split" / split / path.parent.name / path.name)
    root = root.parent / "split"
    manifest, *_ = build(root)
    assert all(
        split == path.split("/")[0] for split, path in manifest.table.select("split", "path").iter_rows()
    )
    source = next((root / "train" / "acne").iterdir())
    Image.open(source).resize((60, 60)).save(root / "test" / "acne" / "P99_copy.png")
    with pytest.raises(InputError, match=r"(?s)P00: test, train.*across_splits=drop_train"):
        build(root)
    assert len(build(root, duplicates=None)[0]) == 25


class Drawn:
    """A source that renders its pictures, as the phantom does."""

    licence, citation = "Apache-2.0", "drawn"
    needs_root = False

    def load(self, root: Path) -> pl.DataFrame:
        (root / "images").mkdir()
        rows = [{"path": f"images/{number}.png", "label": "skin"} for number in range(6)]
        for number, row in enumerate(rows):
            picture(number).save(root / row["path"])
        return pl.DataFrame(rows)


def test_rendered_images_lie_in_the_artifact_and_move_with_it(tmp_path):
    out = tmp_path / "work"
    out.mkdir()
    build_dataset(Drawn(), None, out)
    out.rename(tmp_path / "published")
    manifest = Manifest.read(tmp_path / "published")
    assert all(path.is_file() for path in manifest.paths())
    assert json.loads((tmp_path / "published" / "summary.json").read_text())["near_copies"] is None


def test_nothing_is_rendered_into_a_folder_of_the_user(root):
    before = sorted(root.rglob("*"))
    with pytest.raises(InputError, match=r"(?s)Drawn renders its images.*dataset=folder"):
        build(root, source=Drawn())
    assert sorted(root.rglob("*")) == before


def test_pad_ufes_20(pad_ufes_20, tmp_path):
    build_dataset(
        PadUfes20(), str(pad_ufes_20), tmp_path, duplicates=Duplicates(max_hamming=None)
    )  # no network
    manifest = Manifest.read(tmp_path)
    dropped = pl.read_csv(tmp_path / "dropped.csv")
    assert len(manifest) + len(dropped) == 896
    assert dropped["reason"].str.starts_with("same picture with different labels").all()
    assert len(dropped) == 2
    assert manifest.table.group_by("group_id").agg(pl.col("split").n_unique())["split"].max() == 1
    shares = (
        manifest.table.group_by("label", "split").len().with_columns(of=pl.col("len").sum().over("label"))
    )
    test = shares.filter(pl.col("split") == "test")
    assert ((test["len"] - test["of"] * 0.25).abs() <= 1.5).all()


PATIENT_AND_LESION = {"path": "path", "label": "label", "group_id": "patient", "lesion_id": "lesion"}


def test_a_lesion_joins_rows_without_a_patient_to_its_own(root):
    """Every lesion has two pictures, one of them without a patient; a split by name alone would part most of them."""
    images = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lines = [
        f"{path},{'ab'[i // 2 % 2]},{f'p{i // 2}' if i % 2 else ''},l{i // 2}"
        for i, path in enumerate(images)
    ]
    (root / "metadata.csv").write_text("\n".join(["path,label,patient,lesion", *lines]))
    manifest, summary, _ = build(root, source=Csv(PATIENT_AND_LESION))
    groups = manifest.table.group_by("lesion_id").agg(
        pl.col("split").n_unique(), pl.col("group_id").n_unique()
    )
    assert groups.select("split", "group_id").unique().rows() == [(1, 1)]
    assert manifest.table["group_id"].n_unique() == 12
    assert manifest.table["split"].n_unique() == 3
    assert summary["told"] == []


def test_lesion_numbers_that_start_anew_join_no_patients(root, capsys):
    """Twelve patients with lesions 1 and 2 each: twelve patients and 24 lesions, not one patient."""
    images = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lines = [f"{path},{path[0]},p{i // 2},{i % 2 + 1}" for i, path in enumerate(images)]
    (root / "metadata.csv").write_text("\n".join(["path,label,patient,lesion", *lines]))
    manifest, summary, _ = build(root, source=Csv(PATIENT_AND_LESION))
    assert summary["patients"] == 12
    assert manifest.table["lesion_id"].n_unique() == 24
    assert manifest.table.filter(group_id="p3")["lesion_id"].sort().to_list() == ["p3-1", "p3-2"]
    (line,) = summary["told"]
    assert line.startswith("2 lesion ids are in several patients, such as 1, 2:")
    assert line in capsys.readouterr().out.replace("\n", " ")


def test_one_file_in_several_rows_is_one_image(root):
    """Two rows of one label, two of different labels, and two of different patients, who are one person then."""
    images = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = [(path, path[0], f"p{i // 2}") for i, path in enumerate(images)]
    rows += [(images[0], "a", "p0"), (images[2], "e", "p1"), (images[4], "a", "p5")]
    (root / "metadata.csv").write_text("path,label,patient\n" + "\n".join(map(",".join, rows)))
    source = Csv({"path": "path", "label": "label", "group_id": "patient"})
    for rules in (HASH_ONLY, None):
        manifest, summary, dropped = build(root, source=source, duplicates=rules, on_bad="drop")
        assert summary["dropped"] == {"copy": 2, "same picture with different labels": 2}
        assert sorted(manifest.table["path"]) == sorted(set(images) - {images[2]})
        assert set(dropped["path"]) == {images[0], images[2], images[4]}
        groups = dict(manifest.table.select("path", "group_id").iter_rows())
        assert groups[images[4]] == groups[images[10]] == "p2"
        assert pl.read_parquet(root.parent / "out" / "hashes.parquet").height == len(manifest)
    with pytest.raises(InputError, match=rf"1 file .* different labels:\n\s+{images[2]}: a, e\n"):
        build(root, source=source, duplicates=Duplicates(max_hamming=4, conflicts="fail"))
    with pytest.raises(InputError, match=rf"{images[2]}: a, e\n"):
        build(root, source=source, duplicates=None)
    kept, *_ = build(root, source=source, duplicates=Duplicates(max_hamming=4, conflicts="keep"))
    assert kept.table.filter(path=images[2]).select("image_id", "label").sort("label").rows() == [
        (images[2], "a"),
        (f"{images[2]}#2", "e"),
    ]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["0", "1"], [0, 1]),
        (["TRUE", "FALSE"], [True, False]),
        (["1.50", "INF"], [1.5, float("inf")]),
        (["湿疹", "银屑病"], ["湿疹", "银屑病"]),
    ],
)
def test_classes_are_chosen_by_what_a_command_line_makes_of_their_names(root, labels, classes):
    images = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lines = [f"{path},{[*labels, 'other'][i % 3]}" for i, path in enumerate(images)]
    (root / "metadata.csv").write_text("\n".join(["path,label", *lines]))
    source = Csv({"path": "path", "label": "label"})
    manifest, *_ = build(root, source=source, classes=classes)
    assert manifest.classes == tuple(sorted(labels))
    with pytest.raises(InputError, match=r"dataset\.classes has 7, no; the data has"):
        build(root, source=source, classes=[*classes, 7, "no"])


def test_photographs_without_patients_are_told(root, capsys):
    _, summary, _ = build(root, Folder())
    assert summary["without_patient"] == {"images": 24, "lesions": 0, "patients": 24, "of_images": 24}
    shown = capsys.readouterr().out
    assert "No patients are told: 24 images are taken as 24 patients." in shown
    pattern = re.search(r"dataset\.source\.group_pattern=\"'(.+?)'\"", shown)
    assert pattern
    assert re.findall(pattern[1], "acne/PAT_12_3.jpg") == ["PAT_12"]
    _, summary, _ = build(root)  # patients by the files' names
    assert summary["without_patient"]["images"] == 0
    assert "patients are told" not in capsys.readouterr().out


def test_rows_without_a_patient_are_counted_and_lesions_told(root):
    rows = [("", ""), ("", "L1"), ("P1", "L2"), ("P2", "")] * 6
    names = sorted(path.relative_to(root) for path in root.rglob("*.png"))
    with open(root / "metadata.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "patient", "lesion"])
        writer.writerows([name, name.parts[0], *ids] for name, ids in zip(names, rows, strict=True))
    columns = {"path": "path", "label": "label", "group_id": "patient", "lesion_id": "lesion"}
    source = Csv(columns)
    _, summary, _ = build(root, source, val_fraction=0.0)
    assert summary["without_patient"] == {"images": 12, "lesions": 1, "patients": 7, "of_images": 24}
    (line,) = summary["told"]
    assert line.startswith(
        "No patients are told of 12 of 24 images: 12 images of 1 lesions are taken as 7 patients."
    )
    assert line.endswith("Fill the column of patients where they are known.")
    assert "+dataset.source.columns.group_id=" in " ".join(advice(Csv({"path": "path", "label": "label"})))
