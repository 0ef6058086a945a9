"""What a table or folders tell wrong, told before a picture is opened or a library of training is loaded."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from omegaconf import OmegaConf
from PIL import Image

from skinaug.dataset.alike import refuse_alike
from skinaug.dataset.stage import check_parts
from skinaug.errors import InputError


def test_labels_that_differ_in_case_or_marks_alone_are_refused_with_the_option_that_joins_them():
    labels = pl.Series(
        ["Naevus"] * 5 + ["naevus"] * 2 + ["basal-cell carcinoma"] + ["Basal cell  carcinoma"] * 4 + ["acne"]
    )
    with pytest.raises(InputError) as caught:
        refuse_alike(labels)
    told = str(caught.value)
    assert "'Naevus' (5 images), 'naevus' (2 images)" in told
    assert "'Basal cell  carcinoma' (4 images), 'basal-cell carcinoma' (1 images)" in told
    option = told.splitlines()[-1].strip()
    mapped = dict(
        entry.split(": ") for entry in option.removeprefix("dataset.labels={").removesuffix("}").split(", ")
    )
    assert mapped["naevus"] == mapped["Naevus"] == "Naevus"
    assert mapped["acne"] == "acne"
    refuse_alike(labels.replace(mapped))
    refuse_alike(pl.Series(["1", "-1", "type I", "type II", "a b", "ab"]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"source.columns.label": "Diagnosis"}, "lacks columns that source.columns maps:\n  label <- Diagnosis"),
        ({"labels": {"nevi": "nevus"}}, "dataset.labels maps nevi, which no image is labelled"),
        ({"classes": ["acne", "eczema"]}, "dataset.classes has eczema; the data has acne, nevus"),
        ({"root": "nowhere"}, "nowhere does not exist"),
    ],
)  # fmt: skip
def test_a_table_is_checked_before_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict, told: str | None
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 40)).save(tmp_path / "lab" / f"{name}.png")
    (tmp_path / "lab" / "table.csv").write_text("path,label\na.png,acne\nb.png,nevus\n")
    source = {
        "_target_": "skinaug.sources.sources.Csv", "file": "table.csv", "images": ".", "separator": ",",
        "columns": {"path": "path", "label": "label"}, "scales": None, "told_by": None, "licence": "", "citation": "",
    }  # fmt: skip
    data = {"source": source, "root": "lab", "classes": None, "labels": None, "folds": None, "on_bad": "fail"}
    cfg = OmegaConf.create({"dataset": data, "exposure": "all", "folds": {"count": None, "refit": "all"}})
    for name, value in change.items():
        OmegaConf.update(cfg, f"dataset.{name}", value)
    if told is None:
        check_parts(cfg)
        return
    with pytest.raises(InputError) as caught:
        check_parts(cfg)
    assert told in str(caught.value)
