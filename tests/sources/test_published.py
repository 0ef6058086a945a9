"""Published sets, drawn in their own layout, become manifests with the right images, patients, splits and attributes; what is left
out is counted with its reason."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import published_sets
import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from skinaug.dataset.small_classes import without_small_classes
from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.manifest import Manifest
from skinaug.sources.left_out import taken_and_left
from skinaug.sources.pictures import Finder
from skinaug.sources.several import Several
from skinaug.sources.values import read_value
from skinaug.stage import build

DATASETS = configs.folder("conf") / "dataset"
PUBLISHED = sorted(file.stem for file in (DATASETS / "published").glob("*.yaml"))
LAYOUTS = Path(__file__).parents[3] / "shared" / "cases" / "make_layouts.py"
KEPT = {"image_id", "path", "label", "split", "group_id", "source", "width", "height", "sha256", "lesion_id"}


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each set in a folder of its own. Nobody changes them."""
    root = tmp_path_factory.mktemp("sets")
    for name, draw in published_sets.SETS.items():
        draw(root / name)
    published_sets.isic2018_challenge(root / "isic2018_challenge")
    published_sets.isic2019(root / "isic2019_with_test", test=True)
    published_sets.isic2024(root / "isic2024_packed", packed=True)
    return root


@cache
def composed(group: str, name: str) -> DictConfig:
    cfg = compose(f"{group}/{name}", ["+folds.count=null"] if group == "dataset" else [])[group]
    OmegaConf.set_struct(cfg, False)
    return cfg


def configured(name: str, root: Path, *overrides: str) -> DictConfig:
    """A set's configuration, and values such as source.label=diagnosis."""
    values = OmegaConf.from_dotlist([f"root={root}", "duplicates=null", *overrides])
    return OmegaConf.merge(composed("dataset", name), values)


def read(name: str, root: Path, out: Path, *overrides: str) -> tuple[Manifest, dict[str, Any]]:
    """The manifest and the summary of a set, as `skinaug dataset` makes them without looking for copies."""
    out.mkdir(exist_ok=True)
    build(configured(name, root, *overrides))(out=out)
    manifest = Manifest.read(out)
    assert all(path.is_file() for path in manifest.paths())
    return manifest, json.loads((out / "summary.json").read_text())


def counts(manifest: Manifest, column: str) -> dict[Any, int]:
    return dict(manifest.table[column].value_counts().sort(column).iter_rows())


@pytest.mark.parametrize(
    ("name", "overrides", "classes", "groups", "dropped"),
    [
        ("ham10000", [], {"bkl": 8, "mel": 8, "nv": 8}, 12, {"copy": 12}),
        ("isic2018", [], {"bkl": 12, "mel": 12, "nv": 12}, 18, {"copy": 12}),
        ("isic2018_challenge", [], {"bkl": 10, "mel": 10, "nv": 10}, 21, {}),
        ("isic2019", [], {"BCC": 12, "MEL": 12, "NV": 12}, 15, {}),
        ("isic2019_with_test", [], {"BCC": 14, "MEL": 15, "NV": 15}, 19, {"label not taken": 1}),
        ("isic2020", [], {"benign": 35, "malignant": 5}, 9, {"named by no row": 3}),
        (
            "isic2020",
            ["source.label=diagnosis"],
            {"lentigo NOS": 9, "melanoma": 5, "nevus": 19},
            9,
            {"named by no row": 3, "label not taken": 5, "class of too few patients": 2},
        ),
        ("isic2020", ["source.pairs=null"], {"benign": 35, "malignant": 5}, 10, {"named by no row": 3}),
        ("isic2024", [], {"benign": 40, "malignant": 8}, 8, {}),
        ("isic2024_packed", [], {"benign": 40, "malignant": 8}, 8, {}),
        ("isic2024", ["source.label=iddx_1"], {"Benign": 40, "Malignant": 8}, 8, {}),
        (
            "milk10k",
            [],
            {"BCC": 4, "MEL": 3, "NV": 4},
            11,
            {"no label": 1, "not chosen by images=clinical": 12},
        ),
        ("milk10k", ["source.images=both"], {"BCC": 8, "MEL": 6, "NV": 8}, 11, {"no label": 2}),
        (
            "derm7pt",
            [],
            {"basal cell carcinoma": 7, "clark nevus": 7, "melanoma (in situ)": 6},
            20,
            {
                "same picture with different labels": 2,
                "its picture is in an earlier row": 1,
                "class of too few patients": 1,
                "not chosen by images=clinical": 24,
            },
        ),
        (
            "derm7pt",
            ["source.images=dermoscopic", "source.label=five"],
            {"BCC": 7, "MEL": 8, "NEV": 8},
            22,
            {"its patient is in a later split too": 1, "not chosen by images=dermoscopic": 22},
        ),
        (
            "fitzpatrick17k",
            [],
            {"melanoma": 10, "psoriasis": 9, "vitiligo": 8},
            27,
            {"no such file": 2, "quality control": 1},
        ),
        (
            "fitzpatrick17k",
            ["source.label=three", "source.reject=null"],
            {"malignant": 10, "non-neoplastic": 18},
            28,
            {"no such file": 2},
        ),
        ("ddi", [], {"benign": 18, "malignant": 6}, 24, {}),
        (
            "ddi",
            ["source.label=disease"],
            {"basal-cell-carcinoma-(nm)": 6, "eczema": 5, "melanocytic-nevi": 6, "melanoma-in-situ": 6},
            23,
            {"class of too few patients": 1},
        ),
        (
            "scin",
            [],
            {"Eczema": 15, "Urticaria": 15},
            15,
            {"no label": 5, "several labels": 15, "label of low weight": 10},
        ),
        (
            "scin",
            ["source.images=first", "source.label=sole"],
            {"Eczema": 5, "Urticaria": 5},
            10,
            {"no label": 5, "several labels": 15, "not chosen by images=first": 30},
        ),
        (
            "scin",
            ["source.least_weight=0.4"],
            {"Acne": 10, "Eczema": 15, "Urticaria": 15},
            20,
            {"no label": 5, "several labels": 15},
        ),
    ],
)  # fmt: skip
def test_each_set_is_read(drawn, tmp_path, name, overrides, classes, groups, dropped):
    manifest, summary = read(name.partition("_")[0], drawn / name, tmp_path, *overrides)
    assert counts(manifest, "label") == classes
    assert manifest.table["group_id"].n_unique() == groups
    assert summary["dropped"] == dropped
    left = pl.read_csv(tmp_path / "dropped.csv")
    assert len(left) == sum(dropped.values())
    assert manifest.licence
    assert manifest.citation
    assert "dx_type" not in manifest.table.columns


def test_own_splits_are_taken_or_left(drawn, tmp_path):
    for name, own, dealt in [
        ("derm7pt", {"train": 10, "val": 6, "test": 4}, 22),
        ("isic2018", {"train": 20, "val": 4, "test": 12}, 36),
        ("isic2018_challenge", {"train": 18, "val": 6, "test": 6}, 30),
        ("isic2019_with_test", {"train": 29, "val": 7, "test": 8}, 44),
    ]:
        stem = name.partition("_")[0]
        manifest, _ = read(stem, drawn / name, tmp_path)
        found = counts(manifest, "split")
        assert found["test"] == own["test"]
        if "val" in own and name not in ("isic2018", "isic2019_with_test"):
            assert found == own
        else:  # the challenge tells no validation set: it is dealt from the training set
            assert found["train"] + found["val"] == own["train"] + own["val"]
        options = ["source.own_splits=false", "min_patients=null", "val_fraction=0.2"]
        options += ["source.label=five"] * (name == "derm7pt")
        manifest, _ = read(stem, drawn / name, tmp_path, *options)
        assert sum(counts(manifest, "split").values()) == dealt - (name == "derm7pt") * 1
        assert manifest.table.group_by("group_id").agg(pl.col("split").n_unique())["split"].max() == 1
        in_test = manifest.table.filter(pl.col("split") == "test")["path"]
        assert not in_test.str.contains("Test|TEST").all(), "dealt anew"


def test_a_test_set_alone_has_no_splits_of_its_own(drawn, tmp_path):
    """The challenge's test set is all that some people have."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("ISIC2018_Task3_Test_Images", "ISIC2018_Task3_Test_GroundTruth.csv"):
        (root / name).symlink_to(drawn / "isic2018" / name)
    for file in (drawn / "isic2018" / "ISIC2018_Task3_Test_Images").iterdir():
        (root / "pictures").mkdir(exist_ok=True)
        (root / "pictures" / file.name).write_bytes(file.read_bytes())
    manifest, _ = read("isic2018", root, tmp_path / "out", "val_fraction=0")
    assert set(counts(manifest, "split")) == {"train", "test"}


def test_pairs_and_patients_stay_in_one_split(drawn, tmp_path):
    manifest, _ = read("milk10k", drawn / "milk10k", tmp_path, "source.images=both")
    pairs = manifest.table.group_by("lesion_id").agg(pl.len(), pl.col("split").n_unique())
    assert set(pairs["len"]) == {2}
    assert set(pairs["split"]) == {1}
    manifest, _ = read("isic2020", drawn / "isic2020", tmp_path)
    joined = manifest.table.filter(pl.col("image_id").is_in(["ISIC_5000037", "ISIC_5000185"]))
    assert joined["group_id"].n_unique() == 1


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        ("ham10000", "sex", {"male", "female", None}),
        ("ham10000", "body_site", {"lower extremity", None}),
        ("isic2019", "sex", {"male", "female", None}),  # gender, in some copies
        ("milk10k", "skin_type", {"MILK10k 0", "MILK10k 3", "MILK10k 5"}),
        ("fitzpatrick17k", "skin_type", {"I", "IV", None}),
        ("ddi", "skin_type", {"I-II", "III-IV", "V-VI"}),
        ("scin", "skin_type", {"I", "VI", None}),
        ("scin", "skin_type_told_by", {"self", None}),
        ("scin", "monk_skin_tone", {"Monk 3", "Monk 10", None}),
        ("scin", "age", {24.0, None}),
        ("scin", "body_site", {"arm", "leg", None}),  # several at once are not one
    ],
)
def test_attributes(drawn, name, column, words):
    table, _ = taken_and_left(build(configured(name, drawn / name).source).load(drawn / name))
    assert set(table[column]) == words


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_column_more_than_is_mapped(drawn, name):
    """Whatever else a table tells, such as how a diagnosis was made, reaches no prompt and no subgroup."""
    source = configured(name, drawn / name).source
    table, _ = taken_and_left(build(source).load(drawn / name))
    mapped = {*source.columns, *(f"{told}_told_by" for told in source.get("told_by", {}))}
    assert set(table.columns) - KEPT <= mapped
    if name == "isic2019":
        assert not table["image_id"].str.contains("downsampled").any(), "as HAM10000 calls the same images"


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_gives_the_label_away_is_no_attribute(name, drawn):
    """Neither now nor by an option: how a diagnosis was made tells it."""
    source = configured(name, drawn / name).source
    build(source)
    for column in (
        {"dx_type", *source.get("gives_away", ())} if name == "ham10000" else source.get("gives_away", ())
    ):
        told = configured(name, drawn / name, f"source.columns.told={column}").source
        with pytest.raises(
            InstantiationException, match=f"told to columns that give the label away.*{column}"
        ):
            build(told)


def test_packed_pictures_are_unpacked_byte_for_byte(drawn, tmp_path):
    manifest, _ = read("isic2024", drawn / "isic2024_packed", tmp_path)
    folder = drawn / "isic2024/train-image/image"
    assert {path.name: path.read_bytes() for path in manifest.paths()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert manifest.root == tmp_path
    assert not list((drawn / "isic2024_packed").rglob("*.jpg")), "nothing is written to the user's folder"


def test_without_h5py_it_is_said_what_to_install(drawn, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"train-image\.hdf5.*pip install 'skinaug\[hdf5\]'"):
        read("isic2024", drawn / "isic2024_packed", tmp_path)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("milk10k", "images=close_up", r"source\.images=close_up: choose from clinical, dermoscopic, both"),
        ("ddi", "images=clinical", r"source\.images=clinical: choose from null alone"),
        ("ddi", "label=diagnosis", r"source\.label=diagnosis: choose from malignant, disease"),
        ("scin", "least_weight=50", r"least_weight=50\.?0?: it must be in"),
        ("ddi", "columns.age=age_years", r"(?s)lack columns.*age <- age_years.*They have: , DDI_ID"),
        ("fitzpatrick17k", "on_missing=skip", "choose fail or drop"),
    ],
)
def test_options_that_a_set_has_not(drawn, tmp_path, name, override, message):
    with pytest.raises((InputError, InstantiationException), match=message):
        read(name, drawn / name, tmp_path, f"source.{override}")


def test_another_folder_than_the_sets(drawn, tmp_path):
    with pytest.raises(InputError, match=r"no file ddi_metadata\.csv under .*scin"):
        read("ddi", drawn / "scin", tmp_path)
    root = tmp_path / "root"
    published_sets.picture(root / "a.png")
    (root / "train.csv").write_bytes((drawn / "isic2020/train.csv").read_bytes())
    with pytest.raises(InputError, match=r"ISIC_2020_Training_Duplicates\.csv.*source\.pairs=null"):
        read("isic2020", root, tmp_path)
    (root / "ddi_metadata.csv").write_bytes((drawn / "ddi/ddi_metadata.csv").read_bytes())
    with pytest.raises(InputError, match=r"None of the 24 pictures .*000001\.png"):
        read("ddi", root, tmp_path)


def test_a_picture_that_is_missing_stops_other_sets(drawn, tmp_path):
    root = tmp_path / "root"
    published_sets.ddi(root)
    (root / "000002.png").unlink()
    with pytest.raises(InputError, match=r"(?s)1 of 24 images.*000002\.png: no such file.*on_bad=drop"):
        read("ddi", root, tmp_path)
    assert read("ddi", root, tmp_path, "on_bad=drop")[1]["dropped"] == {"no such file": 1}


def test_names_find_their_pictures(tmp_path):
    files = ["A/x.JPG", "B/x.JPG", "a/y.png", "A/y.png", "one/z.png", "two/z.png", "v1.2.jpg"]
    for file in files:
        published_sets.picture(tmp_path / file, {"a/y.png": "y", "A/y.png": "y"}.get(file, file))
    finder = Finder(tmp_path, sorted(files))
    assert finder.find("v1.2") == "v1.2.jpg", "an id may hold a dot"
    assert finder.find("B/x.jpg") == "B/x.JPG", "another case of the suffix, in its folder"
    assert finder.find("elsewhere\\v1.2.jpg") == "v1.2.jpg"
    assert finder.find("y") == "A/y.png"
    assert finder.copies == {"a/y.png": "A/y.png"}
    assert finder.find("nowhere") is None
    finder.refuse_ambiguous()
    finder.find("z")
    with pytest.raises(InputError, match=r"z: one/z\.png, two/z\.png"):
        finder.refuse_ambiguous()


def test_values_of_all_forms():
    table = pl.DataFrame(
        {
            "a": ["1", "0.0", "1.0", None],
            "b": ["0", "0", "YES", "1"],
            "list": ["['x']", '["x", "y"]', "[]", "no list"],
            "weights": ['{"x": 2, "y": 1}', "{'x': 1, 'y': 1}", None, "{'x': 'y'}"],
        }
    )
    found = read_value(table, {"one_hot": ["a", "b"], "names": {"a": "first"}})
    assert found["value"].to_list() == ["first", None, None, "b"]
    assert found["left_out"].to_list() == [None, "no label", "several labels: a, b", None]
    found = read_value(table, {"list": "list"})
    assert found["value"].to_list() == ["x", None, None, None]
    assert found["left_out"].to_list() == [
        *(None, "several labels: x, y", "no label", "label cannot be read: no list"),
    ]
    for least, value in ((0.6, "x"), (0.7, None)):
        found = read_value(table, {"weights": "weights"}, least)
        assert found["value"].to_list() == [value, None, None, None]
    assert found["left_out"].to_list() == [
        "label of low weight: x has 0.67 of 1",
        *("several labels: x, y", "no label", "label cannot be read: {'x': 'y'}"),
    ]
    both = {"either": [{"column": "absent"}, {"one_hot": ["a", "b"]}]}
    assert read_value(table, both)["value"].to_list() == ["a", None, None, "b"]


def test_small_classes_are_left_out_with_a_count(drawn, tmp_path, capsys):
    _, summary = read("isic2020", drawn / "isic2020", tmp_path, "source.label=diagnosis")
    rare = {
        "cafe-au-lait macule": {"images": 1, "patients": 1},
        "solar lentigo": {"images": 1, "patients": 1},
    }
    assert summary["small_classes"] == rare
    shown = capsys.readouterr().out
    assert "left out solar lentigo: 1 image of 1 patient" in " ".join(shown.split())
    assert "dropped 5: label not taken" in shown
    with pytest.raises(InputError, match=r"(?s)min_patients=50 leaves 0 of 2 classes.*benign: 9"):
        read("isic2020", drawn / "isic2020", tmp_path, "min_patients=50")
    with pytest.raises(InputError, match="at least 1"):
        read("isic2020", drawn / "isic2020", tmp_path, "min_patients=0")


def test_a_class_that_one_of_the_given_splits_lacks_is_too_small():
    rows = [("a", split, f"p{k}") for k, split in enumerate(["train", "train", "test"])]
    rows += [("b", "train", f"q{k}") for k in range(5)] + [("c", split, split) for split in ("train", "test")]
    table = pl.DataFrame(rows, schema=["label", "split", "group_id"], orient="row").with_columns(
        path="group_id"
    )
    kept, left, classes = without_small_classes(table, 1)
    assert set(kept["label"]) == {"a", "c"}
    assert classes == {"b": {"images": 5, "patients": 5}}
    assert left["reason"].unique().to_list() == ["class of too few patients: b"]
    assert without_small_classes(table, None)[0].equals(table)


def test_published_sets_are_further_test_sets_too(drawn):
    """test=[ddi] reads what dataset=ddi reads."""
    for name in PUBLISHED:
        assert composed("test", name)[name].source == composed("dataset", name).source
    for name, images in (("scin", 30), ("isic2024_packed", 48)):
        source = build(composed("test", name.partition("_")[0])[name.partition("_")[0]].source)
        assert len(taken_and_left(source.load(drawn / name))[0]) == images


def test_published_sets_among_several(drawn):
    """What each leaves out is counted of the whole, and classes of one set leave no other's rows out."""
    sets = {
        name: {
            "source": build(configured(name, drawn / name).source),
            "root": str(drawn / name),
            "classes": None,
        }
        for name in ("milk10k", "scin", "isic2024")
    }
    sets["milk10k"]["classes"] = ["NV", "MEL"]
    several = Several(sets)
    taken, left = taken_and_left(several.load(several.common_root()))
    assert len(taken) == 7 + 30 + 48
    reasons = left["reason"].str.split(":").list.first().value_counts().iter_rows()
    assert dict(reasons) == {
        **{
            "several labels": 15,
            "not chosen by images=clinical": 12,
            "label of low weight": 10,
            "no label": 6,
        },
    }
    sets["isic2024"]["root"] = str(drawn / "isic2024_packed")
    with pytest.raises(InputError, match=r"isic2024 has its pictures in .*train-image\.hdf5"):
        several.load(several.common_root())


@pytest.mark.skipif(
    not LAYOUTS.is_file(), reason="the drawn layouts of ../shared/cases are not on this machine"
)
def test_other_peoples_drawings_of_the_sets(tmp_path):
    spec = importlib.util.spec_from_file_location("make_layouts", LAYOUTS)
    assert spec
    assert spec.loader
    layouts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layouts)
    expected = {  # images, groups, classes
        "ham10000": (84, 42, 7),
        "isic2019": (96, 40, 8),
        "isic2020": (80, 19, 2),
        "isic2024": (90, 15, 2),
        "milk10k": (66, 66, 11),
        "derm7pt": (60, 60, 6),
        "fitzpatrick17k": (69, 69, 4),
        "ddi": (60, 60, 2),
        "scin": (90, 45, 2),
    }
    found = {}
    for name, make in layouts.SETS.items():
        make(tmp_path / name)
        manifest, summary = read(name, tmp_path / name, tmp_path / f"{name}_out")
        found[name] = (len(manifest), summary["patients"], len(manifest.classes))
    assert found == expected
