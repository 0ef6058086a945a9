"""Out of the store: pictures and predictions in forms that others read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest
from commands import skinaug
from PIL import Image
from rendered import SIZES, only, rendered_study

from skinaug.cli.export import submission
from skinaug.dataset.imagefolder import from_imagefolder
from skinaug.manifest import Manifest
from tests.test_extending import block


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered_study(tmp_path_factory.mktemp("study"))


def key(study: Path, stage: str) -> str:
    return f"{stage}/{only(study, stage).name}"


def export(study: Path, *words: str):
    return skinaug("export", *words, cwd=study, env={**os.environ, "COLUMNS": "200"})


@pytest.mark.parametrize("stage", ["dataset", "generate", "curate", "mix"])
def test_pictures_go_out_with_a_card(study: Path, stage: str):
    manifest = Manifest.read(study / "store" / key(study, stage))
    done = export(study, key(study, stage), f"out-{stage}", "--to", "imagefolder")
    assert done.returncode == 0, done.stderr
    assert f"{len(manifest)} pictures to out-{stage}" in done.stdout
    assert (
        from_imagefolder(study / f"out-{stage}")
        .table["sha256"]
        .sort()
        .equals(manifest.table["sha256"].sort())
    )
    card = (study / f"out-{stage}/README.md").read_text()
    assert all(label in card for label in manifest.classes)
    assert ("show no patient" in card) == ("synthetic" in set(manifest.table["source"]))
    assert ("leak certificate**: holds" in card) == (stage != "dataset")
    assert ("exposure**: raw, no filter" in card) == (stage in ("curate", "mix"))


def test_a_table_and_files_a_class(study: Path):
    manifest = Manifest.read(study / "store" / key(study, "curate"))
    export(study, key(study, "curate"), "table")
    table = pl.read_csv(study / "table/metadata.csv")
    assert (
        table["label"]
        .value_counts()
        .sort("label")
        .equals(manifest.table["label"].value_counts().sort("label"))
    )
    for name, label, width in table.select("file_name", "label", "width").iter_rows():
        assert name.split("/")[0] == label
        assert Image.open(study / "table" / name).width == width
    again = [
        "generate=csv",
        "generate.root=table",
        "generate.name=again",
        "generate.source.columns.path=file_name",
    ]
    done = skinaug("mix", "mix=hybrid", *again, *SIZES, cwd=study)
    assert done.returncode == 0, done.stderr


def test_predictions_and_a_submission(study: Path):
    stored = pl.read_parquet(study / "store" / key(study, "classify") / "predictions.parquet")
    export(study, key(study, "classify"), "csv")
    told = pl.read_csv(study / "csv/predictions.csv")
    assert told["prediction"].to_list() == stored["prediction"].to_list()
    done = export(study, key(study, "classify"), "isic", "--to", "isic")
    text = (study / "isic/submission.csv").read_text().splitlines()
    classes = [name.removeprefix("p:") for name in stored.columns if name.startswith("p:")]
    assert text[0].split(",") == ["image", *classes]
    assert all("." in number for line in text[1:] for number in line.split(",")[1:])
    test = stored.filter(pl.col("split") == "test")
    assert f"{test.height} rows" in done.stdout
    read = {row.split(",")[0]: [float(number) for number in row.split(",")[1:]] for row in text[1:]}
    for name, prediction in test.select("image_id", "prediction").iter_rows():
        assert classes[max(range(len(classes)), key=read[name].__getitem__)] == prediction


def test_exported_predictions_give_the_sweeps_own_report(study: Path):
    """README's commands, with the folders of this study."""
    export(study, key(study, "classify"), "theirs")
    (command, baseline) = block("**Predictions.**", "sh").partition("#")[0].rsplit(maxsplit=1)
    skinaug(*command.split()[1:], baseline.replace("=real", "=hybrid"), *SIZES, cwd=study, check=True)
    own = study / next((study / "outputs" / "adhoc").glob("*/run.json")).parent
    skinaug("report", f"report.runs={own}", *SIZES, cwd=study, check=True)
    for name in ("arms", "differences", "recall", "calibration", "operating_points", "gap"):
        frames = [pl.read_csv(at / "report" / f"{name}.csv") for at in (own, study / "outputs/adhoc/theirs")]
        one, other = (frame.drop(pl.selectors.matches("_(min|max)$")) for frame in frames)
        assert one.equals(other, null_equal=True), name


def test_two_folders_are_audited(study: Path):
    """README's command: photographs and pool of this study as folders of files."""
    for stage, folder in (("dataset", "photographs"), ("generate", "pools/stylegan")):
        export(study, key(study, stage), folder)
    command = block("**Any two folders**", "sh").split()
    settings = [*SIZES, "audit.pool.num_replicates=2", "audit.pool.neighbours=3"]
    done = skinaug(*command[1:], *settings, cwd=study, check=True)
    assert "synthetic images are one picture with a real image" in done.stdout
    out = study / "outputs/adhoc/audit-photographs-stylegan"
    assert pl.read_csv(out / "fidelity.csv")["set"].unique().sort().to_list() == [
        "real, held out",
        "synthetic",
    ]
    assert (out / "audit.html").is_file()
    again = skinaug(*command[1:], *settings, cwd=study, check=True)
    assert "reading" not in again.stdout, "what is there is only printed"


def test_a_tie_goes_to_the_predicted_class():
    rows = pl.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "split": ["test", "test", "val"],
            "prediction": ["y", "x", "x"],
            "p:x": [0.5, 1.0, 0.0],
            "p:y": [0.5, 0.0, 0.0],
        }
    )
    assert submission(rows).rows() == [("a", 0.5, 0.500001), ("b", 1.0, 0.0)]


def test_what_has_no_such_form_is_told(study: Path):
    for words, said in (
        ([key(study, "generate"), "x", "--to", "isic"], "cannot be exported as isic"),
        ([key(study, "classify"), "x", "--to", "imagefolder"], "cannot be exported as imagefolder"),
        ([key(study, "copies"), "x"], "other stages hold neither"),
        (["generate/0000000000000000", "x"], "There is no artifact"),
        ([key(study, "generate"), "store"], "is not empty"),
    ):
        done = export(study, *words)
        assert done.returncode == 2
        assert said in done.stderr
        assert not (study / "x").exists()
    assert json.loads((study / "store" / key(study, "mix") / "certificate.json").read_text())["holds"]
