"""Folders, CSV files and the published layout become the same table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from skinaug.dataset.dataset import build_dataset
from skinaug.errors import InputError
from skinaug.sources.labels import labelled
from skinaug.sources.root import check_root, root_digest
from skinaug.sources.sources import Csv, Folder, ImageFolder, PadUfes20


def draw(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(root / name)
    return root


def write_csv(path: Path, *rows: dict) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path.parent


def test_folder_reads_nested_files_and_leaves_hidden_ones(tmp_path):
    draw(tmp_path, "acne/a.png", "acne/deep/er/b.JPG", "eczema/c.png", "acne/.hidden.png", ".cache/d.png")
    (tmp_path / "acne" / "notes.txt").write_text("not an image")
    assert Folder().load(tmp_path).rows() == [
        ("acne/a.png", "acne"),
        ("acne/deep/er/b.JPG", "acne"),
        ("eczema/c.png", "eczema"),
    ]


def test_folder_takes_split_folders_as_splits(tmp_path):
    draw(tmp_path, "Train/acne/a.png", "valid/acne/b.png", "test/eczema/c.png")
    table = Folder().load(tmp_path)
    assert table["label"].to_list() == ["acne", "eczema", "acne"]
    assert table["split"].to_list() == ["train", "test", "val"]


def test_folder_names_patients_by_pattern(tmp_path):
    draw(tmp_path, "acne/P1_a.png", "acne/P1_b.png", "acne/P2_a.png")
    assert Folder(r"/(P\d+)_").load(tmp_path)["group_id"].to_list() == ["P1", "P1", "P2"]
    draw(tmp_path, "acne/nobody.png")
    with pytest.raises(InputError, match=r"(?s)1 paths.*acne/nobody\.png"):
        Folder(r"/(P\d+)_").load(tmp_path)


@pytest.mark.parametrize(("pattern", "message"), [("(", "no regular expression"), ("P", "needs a group")])
def test_folder_refuses_a_bad_pattern(tmp_path, pattern, message):
    draw(tmp_path, "acne/a.png")
    with pytest.raises(InputError, match=message):
        Folder(pattern).load(tmp_path)


def test_folder_refuses_images_outside_a_class(tmp_path):
    draw(tmp_path, "acne/a.png", "stray.png")
    with pytest.raises(InputError, match=r"(?s)1 image lies in none.*stray\.png"):
        Folder().load(tmp_path)


COLUMNS = {
    "path": "file",
    "label": "dx",
    "group_id": "patient",
    "skin_type": "fst",
    "age": "years",
    "sex": "gender",
    "body_site": "site",
    "split": "part",
}


def row(**values: str) -> dict[str, str]:
    return {
        "file": "a.png",
        "dx": "nevus",
        "patient": "7",
        "fst": "2.0",
        "years": "61",
        "gender": "F",
        "site": "LOWER_LEG",
        "part": "training",
        "other": "x",
    } | values


def test_csv_maps_and_tidies(tmp_path):
    draw(tmp_path / "images", "a.png", "b.png", "sub/c.jpg", "d.png")
    write_csv(
        tmp_path / "metadata.csv",
        row(),
        row(file="b", fst="iv", years="nan", gender="unknown", part="valid"),
        row(file="c", fst="-1", patient="", site="NA", part=""),
        row(file=r"..\images\d.png", fst="7", gender="male", part="TEST"),
    )
    table = Csv(COLUMNS, images="images").load(tmp_path)
    assert table.to_dict(as_series=False) == {
        "path": [
            "images/a.png",
            "images/b.png",
            "images/sub/c.jpg",
            "images/d.png",
        ],
        "label": ["nevus"] * 4,
        "group_id": ["7", "7", None, "7"],
        "skin_type": ["II", "IV", None, None],
        "age": [61.0, None, 61.0, 61.0],
        "sex": ["female", None, "female", "male"],
        "body_site": ["lower leg", "lower leg", None, "lower leg"],
        "split": ["train", "val", None, "test"],
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": "file"}, "label is missing"),
        ({"path": "file", "label": "diagnosis"}, r"(?s)label <- diagnosis.*It has: file, dx"),
        ({"path": "file", "label": "dx", "width": "site"}, "width, which is computed"),
    ],
)
def test_csv_refuses_a_wrong_map(tmp_path, columns, message):
    write_csv(draw(tmp_path, "a.png") / "metadata.csv", row())
    with pytest.raises(InputError, match=message):
        Csv(columns).load(tmp_path)


def test_rows_without_a_label_or_path_are_listed_or_dropped_with_a_count(tmp_path):
    write_csv(draw(tmp_path, "a.png") / "metadata.csv", row(), row(dx=""), row(), row(file=" "))
    table = Csv(COLUMNS).load(tmp_path)
    with pytest.raises(
        InputError, match=r"(?s)2 rows.*row 2, a\.png: no label\n\s+row 4: no path.*on_bad=drop"
    ):
        labelled(table, "fail")
    kept, dropped = labelled(table, "drop")
    assert kept["path"].to_list() == ["a.png", "a.png"]
    assert dropped.rows() == [("a.png", "no label"), ("row 4", "no path")]
    with pytest.raises(InputError, match="2 rows of the table"):
        labelled(table[[1, 3]], "drop")


def test_csv_refuses_unknown_splits_and_ambiguous_names(tmp_path):
    write_csv(draw(tmp_path, "x/a.png", "y/a.jpg") / "metadata.csv", row(file="a"))
    with pytest.raises(InputError, match=r"a: x/a\.png, y/a\.jpg"):
        Csv(COLUMNS).load(tmp_path)
    write_csv(tmp_path / "metadata.csv", row(part="fold3"))
    with pytest.raises(InputError, match="fold3"):
        Csv(COLUMNS).load(tmp_path)


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "<NA>", "null", "N/A"])
def test_csv_takes_a_missing_label_for_no_class(tmp_path, word):
    write_csv(draw(tmp_path, "a.png") / "metadata.csv", row(), row(dx=word))
    assert Csv(COLUMNS).load(tmp_path)["label"].to_list() == ["nevus", None]
    write_csv(tmp_path / "metadata.csv", row(dx="unknown"))
    assert Csv(COLUMNS).load(tmp_path)["label"].to_list() == ["unknown"], "a class of published sets"


def test_csv_in_another_encoding_is_refused_with_its_lines(tmp_path):
    text = "file,dx\na.png,nevus\nb.png,n\xe6vus\nc.png,n\xe6vus\n"
    (draw(tmp_path, "a.png") / "metadata.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"(?s)not UTF-8 in 2 lines.*line 3\n\s+line 4.*Save it as UTF-8"):
        Csv({"path": "file", "label": "dx"}).load(tmp_path)
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "metadata.csv").write_bytes(text.replace("\n", "\r\n").encode(encoding))
        assert Csv({"path": "file", "label": "dx"}).load(tmp_path)["label"].to_list() == [
            "nevus",
            "n\xe6vus",
            "n\xe6vus",
        ]


def test_csv_with_two_columns_of_one_name_is_refused_where_it_matters(tmp_path):
    (draw(tmp_path, "a.png") / "metadata.csv").write_text("file,dx,dx,x,x\na.png,nevus,acne,1,2\n")
    with pytest.raises(InputError, match="several columns named dx"):
        Csv({"path": "file", "label": "dx"}).load(tmp_path)
    (tmp_path / "metadata.csv").write_text("file,dx,x,x\na.png,nevus,1,2\n")
    assert Csv({"path": "file", "label": "dx"}).load(tmp_path).height == 1


@pytest.mark.parametrize("separator", ["", ";;", "€"])
def test_csv_separators_are_one_character(tmp_path, separator):
    write_csv(draw(tmp_path, "a.png") / "metadata.csv", row())
    with pytest.raises(InputError, match="separator"):
        Csv(COLUMNS, separator=separator).load(tmp_path)


@pytest.mark.parametrize("name", ["row", "weights", "loss_weight"])
def test_csv_columns_do_not_take_the_names_of_others(tmp_path, name):
    write_csv(draw(tmp_path, "a.png") / "metadata.csv", row())
    with pytest.raises(InputError, match=f"own_{name}"):
        build_dataset(Csv(COLUMNS | {name: "other"}), str(tmp_path), tmp_path / "out")


def test_names_that_are_not_utf8_are_told(tmp_path):
    draw(tmp_path, "acne/a.png")
    (tmp_path / "acne" / "b\udcff.png").write_bytes((tmp_path / "acne" / "a.png").read_bytes())
    with pytest.raises(InputError, match=r"1 name .*\n\s+acne/b\\xff\.png"):
        Folder().load(tmp_path)
    write_csv(tmp_path / "metadata.csv", {"file": "a", "dx": "acne"})
    assert Csv({"path": "file", "label": "dx"}).load(tmp_path)["path"].to_list() == ["acne/a.png"]


def test_csv_without_its_file_or_not_a_csv(tmp_path):
    with pytest.raises(InputError, match=r"no file .*metadata\.csv"):
        Csv(COLUMNS).load(tmp_path)
    (tmp_path / "metadata.csv").write_text("")
    with pytest.raises(InputError, match="cannot be read as a CSV"):
        Csv(COLUMNS).load(tmp_path)


def test_pad_layout_finds_images_by_stem(tmp_path):
    draw(tmp_path, "imgs_part_1/imgs_part_1/PAT_8_15_820.png", "imgs_part_2/PAT_9_16_821.jpg")
    common = {"age": "55", "gender": "MALE", "region": "FACE", "diagnostic": "BCC"}
    write_csv(
        tmp_path / "metadata.csv",
        {"img_id": "PAT_8_15_820.png", "patient_id": "PAT_8", "lesion_id": "15", "fitspatrick": "3.0"}
        | common,
        {"img_id": "PAT_9_16_821.png", "patient_id": "PAT_9", "lesion_id": "16", "fitspatrick": ""} | common,
    )
    table = PadUfes20().load(tmp_path)
    assert table["path"].to_list() == [
        "imgs_part_1/imgs_part_1/PAT_8_15_820.png",
        "imgs_part_2/PAT_9_16_821.jpg",
    ]
    assert table["image_id"].to_list() == ["PAT_8_15_820", "PAT_9_16_821"]
    assert table["skin_type"].to_list() == ["III", None]
    assert table["body_site"].to_list() == ["face", "face"]


def test_pad_ufes_20_counts(pad_ufes_20):
    table = PadUfes20().load(pad_ufes_20)
    counts = dict(table["label"].value_counts().iter_rows())
    assert counts == {"BCC": 288, "ACK": 236, "NEV": 158, "SEK": 119, "SCC": 57, "MEL": 38}
    assert table["group_id"].n_unique() == 659
    assert all((pad_ufes_20 / path).is_file() for path in table["path"])
    assert dict(table["skin_type"].drop_nulls().value_counts().iter_rows()) == {
        "I": 56,
        "II": 323,
        "III": 147,
        "IV": 28,
        "V": 1,
    }


def test_check_root(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file"
    file.touch()
    for root, message in [
        (None, "none is given"),
        ("", "none is given"),
        (str(tmp_path / "absent"), f"{tmp_path}/absent does not exist"),
        (str(file), "is a file"),
        (str(empty), f"{empty} holds no images"),
    ]:
        with pytest.raises(InputError, match=rf"{message}.*dataset\.root=<folder>"):
            check_root(Folder(), root, "dataset")
    assert check_root(Folder(), str(draw(tmp_path, "acne/a.png")), "dataset") == tmp_path


def test_root_digest_follows_the_content(tmp_path):
    first = root_digest(draw(tmp_path, "acne/a.png", "acne/b.png"))
    assert root_digest(tmp_path) == first
    (tmp_path / "acne" / "b.png").rename(tmp_path / "acne" / "c.png")
    renamed = root_digest(tmp_path)
    Image.new("RGB", (41, 40)).save(tmp_path / "acne" / "a.png")
    assert len({first, renamed, root_digest(tmp_path)}) == 3


def test_an_imagefolder_is_read_with_its_splits_and_classes(tmp_path):
    """As Hugging Face lays it out: a table in each split's folder, names relative to it, the class in a column or a folder."""
    draw(tmp_path, "train/acne/a.png", "train/nevus/b.png", "validation/x/c.png")
    lines = ['{"file_name": "acne/a.png", "age": 41}', '{"file_name": "nevus/b.png", "age": null}']
    (tmp_path / "train/metadata.jsonl").write_text("\n".join(lines))
    (tmp_path / "validation/metadata.csv").write_text("file_name,label,sex\nx/c.png,wart,F\n")
    rows = ImageFolder().load(tmp_path).sort("path").to_dicts()
    assert [row["path"] for row in rows] == ["train/acne/a.png", "train/nevus/b.png", "validation/x/c.png"]
    assert [row["label"] for row in rows] == ["acne", "nevus", "wart"]
    assert [row["split"] for row in rows] == ["train", "train", "val"]
    assert [(row["age"], row["sex"]) for row in rows] == [(41.0, None), (None, None), (None, "female")]


@pytest.mark.parametrize(
    ("table", "columns", "said"),
    [
        ('{"name": "a.png"}', None, "lacks the columns file_name; it has name"),
        ('{"file_name": "a.png"}', {"label": "class"}, "lacks the columns class"),
        ('{"file_name": "a.png", "boxes": [[1, 2]]}', None, "has boxes, which are lists or tables"),
        ("no json", None, "cannot be read"),
    ],
)
def test_imagefolders_that_cannot_be_read(tmp_path, table, columns, said):
    draw(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text(table)
    with pytest.raises(InputError, match=said):
        ImageFolder(columns).load(tmp_path)
