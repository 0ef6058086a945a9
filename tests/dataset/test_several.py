"""Several data sets as one: shared names, patients kept apart, splits of each, and copies that are in two of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from skinaug.dataset.dataset import build_dataset
from skinaug.dataset.duplicates import Duplicates
from skinaug.dataset.stage import STAGE, described
from skinaug.errors import InputError
from skinaug.launch import configs
from skinaug.launch.selections import spread_sets
from skinaug.manifest import Manifest
from skinaug.sources.several import Several
from skinaug.sources.sources import Csv, Folder, PadUfes20
from skinaug.stage import build

LABELS = {"MEL": "melanoma", "NEV": "nevus", "mel": "melanoma", "nv": "nevus"}
COLUMNS = {"path": "image", "label": "dx", "lesion_id": "lesion"}


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(60, 230, (7, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """PAD-UFES-20's layout with 24 photographs of patients 0 to 11, and a CSV with 24 of lesions 0 to 11, whose numbers are alike."""
    pad, other = tmp_path / "one" / "pad", tmp_path / "two" / "deep" / "ham"
    for folder in (pad / "imgs", other):
        folder.mkdir(parents=True)
    rows, lines = [], []
    for number in range(24):
        picture(number).save(pad / "imgs" / f"{number}.png")
        picture(500 + number).save(other / f"{number}.png")
        rows.append(
            {
                "img_id": f"{number}.png",
                "diagnostic": ("MEL", "NEV", "BCC")[number % 3],
                "patient_id": number // 2,
            }
        )
        rows[-1] |= {"lesion_id": number, "region": "ARM", "fitspatrick": 2, "age": 50, "gender": "FEMALE"}
        lines.append({"image": number, "dx": ("mel", "nv")[number % 2], "lesion": number // 2})
    write(pad / "metadata.csv", rows)
    write(other / "metadata.csv", lines)
    return {"pad": pad, "ham": other}


def several(roots: dict[str, Path], **changes: Any) -> Several:
    sources = {"pad": PadUfes20(), "ham": Csv(COLUMNS, licence="CC0", citation="somebody")} | changes
    return Several(
        {name: {"source": sources[name], "root": str(roots[name]), "classes": None} for name in roots}
    )


def built(source: Several, out: Path, **options: Any) -> tuple[Manifest, dict[str, Any]]:
    out.mkdir(exist_ok=True)
    options = {"labels": LABELS, "duplicates": Duplicates(max_hamming=4), **options}
    build_dataset(source, None, out, **options)
    return Manifest.read(out), json.loads((out / "summary.json").read_text())


def test_two_sets_are_one(roots: dict[str, Path], tmp_path: Path):
    manifest, summary = built(several(roots), tmp_path / "out")
    assert manifest.classes == ("melanoma", "nevus")
    assert dict(manifest.table["collection"].value_counts().iter_rows()) == {"pad": 16, "ham": 24}
    assert summary["dropped"] == {"of a class that dataset.labels leaves out, BCC": 8}
    assert manifest.root == tmp_path
    assert all(path.is_file() for path in manifest.paths())
    by_id = {row["image_id"]: row for row in manifest.table.iter_rows(named=True)}
    assert by_id["pad/0"]["path"] == "one/pad/imgs/0.png"
    assert (by_id["pad/0"]["group_id"], by_id["pad/0"]["lesion_id"], by_id["pad/0"]["age"]) == (
        "pad/0",
        "pad/0",
        50.0,
    )
    ham = manifest.table.filter(pl.col("collection") == "ham").sort("path")
    assert set(ham["group_id"]) == {f"ham/{number}" for number in range(12)}, (
        "lesions 0 to 11 are not patients 0 to 11"
    )
    assert ham["age"].is_null().all()
    assert manifest.licence == "pad: CC BY 4.0; ham: CC0"
    assert "Pacheco" in manifest.citation
    assert "ham: somebody" in manifest.citation
    assert set(manifest.table["split"]) == {"train", "val", "test"}


def test_a_licence_that_one_set_does_not_tell_is_not_that_of_the_whole(roots: dict[str, Path]):
    source = several(roots, ham=Csv(COLUMNS))
    assert source.licence == ""
    assert "Pacheco" in source.citation


def test_copies_in_two_sets_are_found_joined_and_counted(roots: dict[str, Path], tmp_path: Path):
    picture(0).save(
        roots["ham"] / "0.png"
    )  # MEL, of patient 0: the same pixels; here a lesion with picture 1
    picture(1).resize((44, 44)).save(roots["ham"] / "3.png")  # NEV, of patient 0: saved anew
    manifest, summary = built(several(roots), tmp_path / "out")
    assert (summary["copies_across_sets"], summary["near_copies_across_sets"]) == (1, 1)
    groups = dict(manifest.table.select("path", "group_id").iter_rows())
    one = {
        groups[f"one/pad/imgs/{number}.png"] for number in (0, 1) if f"one/pad/imgs/{number}.png" in groups
    }
    other = {groups[f"two/deep/ham/{number}.png"] for number in (1, 2, 3)}
    assert one == other
    assert len(one) == 1, "patient 0 of the one, lesions 0 and 1 of the other"


def test_each_set_keeps_its_own_splits_and_the_others_are_dealt(roots: dict[str, Path], tmp_path: Path):
    lines = list(csv.DictReader((roots["ham"] / "metadata.csv").open()))
    own = {str(n): "test" if n < 6 else "train" for n in range(12)}  # no validation
    write(roots["ham"] / "metadata.csv", [{**line, "part": own[line["lesion"]]} for line in lines])
    picture(0).resize((44, 44)).save(roots["ham"] / "0.png")  # patient 0 of pad is in ham's test
    source = several(roots, ham=Csv({**COLUMNS, "split": "part"}))
    manifest, _ = built(source, tmp_path / "out", val_fraction=0.2, test_fraction=0.3)
    ham = manifest.table.filter(pl.col("collection") == "ham")
    split_of = dict(ham.select(pl.col("lesion_id").str.split("/").list.last(), "split").unique().iter_rows())
    assert {lesion for lesion, split in split_of.items() if split == "test"} == {str(n) for n in range(6)}
    assert {split_of[str(n)] for n in range(6, 12)} == {"train", "val"}
    pad = manifest.table.filter(pl.col("collection") == "pad")
    assert dict(
        pad.filter(pl.col("image_id").is_in(["pad/0", "pad/1"]))["split"].value_counts().iter_rows()
    ) == {"test": 2}
    assert set(pad["split"]) == {"train", "val", "test"}


def test_what_leads_out_of_a_sets_own_folder_is_refused(roots: dict[str, Path], tmp_path: Path):
    """It lies in the folder that the sets have in common, which must not count."""
    with (roots["ham"] / "metadata.csv").open("a") as file:
        file.write("../../../one/pad/imgs/0.png,mel,99\n")
    (roots["ham"] / "linked.png").symlink_to(roots["pad"] / "imgs" / "1.png")
    with (roots["ham"] / "metadata.csv").open("a") as file:
        file.write("linked.png,mel,98\n")
    with pytest.raises(InputError, match="2 images of ham lead out of its folder"):
        built(several(roots), tmp_path / "out")


def test_names_of_classes_that_no_image_has_are_refused(roots: dict[str, Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"dataset\.labels maps melanom, which no image is labelled"):
        built(several(roots), tmp_path / "out", labels={**LABELS, "melanom": "melanoma"})


def test_a_map_of_names_serves_one_set_too(roots: dict[str, Path], tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    labels = {"MEL": "malignant", "BCC": "malignant"}
    build_dataset(PadUfes20(), str(roots["pad"]), out, ["malignant", "NEV"], labels)
    assert dict(Manifest.read(out).table["label"].value_counts().iter_rows()) == {"malignant": 16, "NEV": 8}


def composed(*overrides: str) -> DictConfig:
    configs.register()
    with initialize_config_dir(str(configs.folder("conf").resolve()), version_base="1.3"):
        return compose("config", spread_sets(overrides))


def test_a_list_on_the_command_line_is_several_sets(roots: dict[str, Path]):
    cfg = composed(
        "dataset=[pad_ufes_20,folder@clinic]", f"dataset.pad_ufes_20.root={roots['pad']}",
        f"dataset.clinic.root={roots['ham']}", "dataset.clinic.source.group_pattern='(\\d+)'", "dataset.val_fraction=0.2",
        "dataset.clinic.classes=[a]", "+dataset.labels.MEL=melanoma",
    )  # fmt: skip
    source = build(described(cfg)["source"])
    assert source == Several(
        {
            "pad_ufes_20": {"source": PadUfes20(), "root": str(roots["pad"]), "classes": None},
            "clinic": {"source": Folder("(\\d+)"), "root": str(roots["ham"]), "classes": ["a"]},
        }
    )
    assert (cfg.dataset.val_fraction, cfg.dataset.labels.MEL) == (0.2, "melanoma")
    assert STAGE.tags(cfg) == {"dataset": "pad_ufes_20+clinic"}
    (step,) = STAGE.steps(cfg)
    before = dict(step.digests)
    picture(9).save(roots["ham"] / "new.png")
    (step,) = STAGE.steps(cfg)
    assert step.digests != before
    assert set(step.config["source"]["sets"]["clinic"]) == {"source", "root", "classes"}


def test_one_of_a_list_is_that_set():
    assert spread_sets(["-m", "dataset=[folder]", "seed=0,1"]) == ["-m", "dataset=folder", "seed=0,1"]
    assert spread_sets(["dataset=folder", "dataset.root=x"]) == ["dataset=folder", "dataset.root=x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=[folder,folder]"], r"dataset=\[folder@clinic,folder@ward\]"),
        (["dataset=[]"], "names no set"),
        (["dataset=[folder,csv],phantom"], r"conf/dataset/<name>\.yaml"),
        (["dataset=[folder@1,csv]"], "1 is no name for a set"),
        (["dataset=[folder@source,csv]"], "source is no name for a set"),
        (
            ["dataset=[folder,csv]", "dataset.csv.on_bad=drop"],
            r"The rest is the whole's: dataset\.on_bad=drop",
        ),
    ],
)
def test_lists_that_make_no_data_are_refused(words: list[str], message: str):
    with pytest.raises(InputError, match=message):
        spread_sets(words)


def test_sets_without_a_folder_are_told():
    with pytest.raises(InputError, match=r"csv: no folder is given.*dataset\.csv\.root=<folder>"):
        described(composed("dataset=[folder,csv]", "dataset.folder.root=/x"))
    with pytest.raises(InputError, match="phantom renders its images"):
        list(STAGE.steps(composed("dataset=[folder,phantom]", "dataset.folder.root=/")))
