"""Leaks planted in a study's data are found before anything is trained, from the command line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import commands
import polars as pl
import pytest
from PIL import Image

from skinaug.dataset.phantom.source import Phantom

SMALL = [
    "dataset=csv",
    "dataset.root=data",
    "+dataset.source.columns.group_id=group_id",
    "+dataset.source.columns.split=split",
]


def skinaug(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "160"}
    environment.pop("SKINAUG_STORE", None)
    return commands.skinaug(*arguments, cwd=cwd, env=environment, timeout=300)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with photographs in splits of their own, without a leak."""
    table = Phantom(per_class=12, image_size=96, seed=1, workers=1).load(tmp_path / "data")
    patients = table["group_id"].unique(maintain_order=True).to_list()
    held_out = dict.fromkeys(patients[::4], "val") | dict.fromkeys(patients[1::4], "test")
    split = pl.col("group_id").replace_strict(held_out, default="train")
    table.select("path", "label", "group_id", split=split).write_csv(tmp_path / "data" / "metadata.csv")
    return tmp_path


def rows(study: Path) -> pl.DataFrame:
    return pl.read_csv(study / "data" / "metadata.csv")


def add(study: Path, **row: str) -> None:
    table = rows(study)
    pl.concat([table, pl.DataFrame([row]).select(table.columns)]).write_csv(study / "data" / "metadata.csv")


def test_without_a_leak_the_certificate_holds_and_can_be_printed(study: Path):
    made = skinaug("mix", "mix=real", *SMALL, cwd=study)
    assert made.returncode == 0, made.stderr
    (mix,) = (study / "store" / "mix").glob("*")
    assert (mix / "certificate.json").is_file()
    told = skinaug("audit", f"mix/{mix.name}", cwd=study)
    assert told.returncode == 0, told.stderr
    assert "The certificate holds." in told.stdout
    assert "training" in told.stdout


@pytest.mark.parametrize("saved", ["jpeg", "as it is"])
def test_a_training_photograph_that_is_also_in_the_test_split_stops_the_run(study: Path, saved: str):
    """The split by patient does not see it: the copy bears another patient's name. Looking for duplicates is off."""
    one = rows(study).filter(pl.col("split") == "train").row(0, named=True)
    path = "images/again.jpg" if saved == "jpeg" else "images/again.png"
    image = Image.open(study / "data" / one["path"])
    image.save(study / "data" / path, **({"quality": 80} if saved == "jpeg" else {}))
    add(study, path=path, label=one["label"], group_id="somebody else", split="test")
    refused = skinaug("classify", "mix=real", "dataset.duplicates=null", *SMALL, cwd=study)
    assert refused.returncode == 2, refused.stdout
    assert "training: " in refused.stderr
    assert "near-copy of a held-out photograph" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (study / "store" / "mix").exists()
    assert not (study / "store" / "classify").exists()
