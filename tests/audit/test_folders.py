"""Two folders against each other: planted copies are found, patients and test images kept apart, attributes counted."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.audit.folders import COMPARED, COPIES, audit_folders, print_folders, with_held_out
from skinaug.dataset.phantom.source import Phantom
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.models.backbone import create_backbone
from skinaug.report.folders import write_page

AUDIT = partial(
    audit_folders,
    partial(create_backbone, "tf_efficientnet_lite0"),
    32,
    num_replicates=2,
    device=lambda: "cpu",
)


def phantoms(folder: Path, seed: int, per_class: int) -> pl.DataFrame:
    """Rendered photographs with their table, as a data set comes."""
    table = Phantom(per_class, 96, seed, workers=1).load(folder)
    return table.select("path", "label", "group_id", "skin_type", "age")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """60 photographs, of which the first patient's are for the test, and 30 pictures: five are copies, two repeat another."""
    root = tmp_path_factory.mktemp("folders")
    table = phantoms(root / "real", 0, 10)
    first = pl.col("group_id") == table["group_id"][0]
    table = table.with_columns(split=pl.when(first).then(pl.lit("test")))
    table.write_csv(root / "real" / "metadata.csv")
    for number, (path, label) in enumerate(
        phantoms(root / "drawn", 7, 5).select("path", "label").iter_rows()
    ):
        (root / "made" / label).mkdir(parents=True, exist_ok=True)
        Image.open(root / "drawn" / path).save(root / "made" / label / f"{number}.png")
    photographs = table.filter(pl.col("split").is_null())["path"]
    for number, path in enumerate(photographs[:10:2]):
        Image.open(root / "real" / path).save(root / "made" / "acne" / f"copy-{number}.jpg", quality=90)
    picture = sorted((root / "made" / "nevus").iterdir())[0]
    for number in range(2):
        (root / "made" / "nevus" / f"again-{number}.png").write_bytes(picture.read_bytes())
    (root / "made" / "nevus" / "moving.gif").write_bytes(b"GIF89a")
    return {"real": root / "real", "synthetic": root / "made"}


@pytest.fixture(scope="module")
def out(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    AUDIT(**folders, cache=out / "cache.sqlite", out=out)
    return out


def test_planted_copies_are_found(out: Path):
    copies = pl.read_csv(out / "copies.csv", schema=COPIES)
    of_real, of_synthetic = (copies.filter(pl.col("of") == kind) for kind in ("real", "synthetic"))
    assert set(of_real["image_id"].str.extract(r"(copy-\d)")) == {f"copy-{number}" for number in range(5)}
    assert not of_real["identical"].any()
    assert of_synthetic["identical"].sum() == 3, "a picture and two that repeat it are three pairs"
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["copies_of_real"], summary["repeated_in_synthetic"]) == (5, 3)
    nearest = pl.read_parquet(out / "memorisation.parquet")
    planted = nearest.filter(pl.col("image_id").str.contains("copy-"))
    assert planted["copy_p"].max() < nearest["copy_p"].median()


def test_test_images_are_left_out_and_patients_are_held_out(out: Path, folders: dict[str, Path]):
    real = Manifest.read(out / "real")
    given = pl.read_csv(folders["real"] / "metadata.csv")
    unseen = given.filter(pl.col("split") == "test")["path"]
    assert not set(unseen) & set(real.table["path"])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["test_images_left_out"] == len(unseen)
    assert len(real) + len(unseen) == given.height
    train, val = (set(real.split(name).table["group_id"]) for name in ("train", "val"))
    assert not train & val
    assert 12 <= len(real.split("val")) <= 0.25 * len(real)
    fidelity = pl.read_csv(out / "fidelity.csv")
    overall = fidelity.filter(pl.col("label") == "all")
    assert set(overall["set"]) == {"synthetic", "real, held out"}
    assert overall["images"].n_unique() == 1, "sets are compared at equal size"


def test_attributes_are_counted_for_both(out: Path):
    real, table = Manifest.read(out / "real").table, pl.read_csv(out / "compared.csv", schema=COMPARED)
    sums = {name: part for (name,), part in table.group_by("attribute")}
    assert set(sums) == {"skin_type", "age", "tone, measured", "lesion, measured"}
    assert {(part["real"].sum(), part["synthetic"].sum()) for part in sums.values()} == {(len(real), 37)}
    types = dict(sums["skin_type"].select("value", "real").iter_rows())
    assert {name: count for name, count in types.items() if name != "not stated"} == dict(
        real["skin_type"].value_counts().iter_rows()
    )
    assert sums["age"]["value"].str.contains(r"^\d+0 to \d+9$|^not stated$|^0 to 9$").all()


def test_it_is_printed_and_makes_a_page(out: Path, capsys: pytest.CaptureFixture[str]):
    print_folders(out)
    printed = " ".join(capsys.readouterr().out.split())
    assert "5 synthetic images are one picture with a real image" in printed
    assert "3 synthetic images are one picture with another synthetic one" in printed
    assert "Synthetic folder: Other files of the folder, which are not read: 1 .gif." in printed
    write_page(out, ["<b>said</b>"])
    page = (out / "audit.html").read_text()
    assert "&lt;b&gt;said&lt;/b&gt;" in page
    assert page.count("<figure>") == page.count("data:image/jpeg") / 2 >= 5 + 2
    assert "Synthetic images that repeat each other" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_held_out_patients_are_drawn_whole_or_not_at_all(make_manifest):
    rows = [{"label": "a", "group_id": f"p{number // 4}"} for number in range(80)]
    data = make_manifest(rows)
    held = with_held_out(data, 0.25, 12, 0)
    assert 12 <= len(held.split("val")) <= 20
    assert held.table.group_by("group_id").agg(pl.col("split").n_unique())["split"].max() == 1
    assert with_held_out(data, 0.25, 30, 0).table["split"].unique().to_list() == ["train"]
    given = make_manifest([{**row, "split": "val" if row["group_id"] == "p0" else "train"} for row in rows])
    assert with_held_out(given, 0.25, 12, 0) is given


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbours": 50}, r"real folder has \d+ images to compare, and fidelity takes 102 or more"),
        ({"held_out": 1.0}, "held_out=1.0 is no share"),
        ({"on_bad": "x"}, "choose fail or drop"),
    ],
)
def test_bad_settings_and_too_few_images_are_refused(
    settings: dict, message: str, folders: dict[str, Path], tmp_path: Path
):
    with pytest.raises(InputError, match=message):
        AUDIT(**folders, **settings, cache=None, out=tmp_path)


def test_real_images_of_few_patients_are_refused(tmp_path: Path):
    for name, kind in (("real", "p1-{}.png"), ("made", "{}.png")):
        (tmp_path / name).mkdir()
        for number in range(14):
            pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / kind.format(number))
    paths = [path.name for path in (tmp_path / "real").iterdir()]
    pl.DataFrame({"path": paths, "label": "a", "group_id": "p1"}).write_csv(
        tmp_path / "real" / "metadata.csv"
    )
    with pytest.raises(InputError, match="of 1 patients, and copies are told by"):
        AUDIT(real=tmp_path / "real", synthetic=tmp_path / "made", cache=None, out=tmp_path)
