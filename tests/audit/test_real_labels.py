"""Label errors that were put in are found, off-topic pictures too, and nobody's own patient judges a photograph."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from skinaug.audit.real_labels import audit_labels, out_of_fold, print_labels, read_table
from skinaug.dataset.phantom.source import Phantom
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.models.backbone import create_backbone
from skinaug.report.real_labels import counts_table, suspects
from skinaug.store.digest import sha256_file

BACKBONE = partial(create_backbone, name="tf_efficientnet_lite0")
PROBE = partial(LogisticRegression, C=0.001, max_iter=300)
CLASSES = ("acne", "eczema", "nevus")
STRANGE = 4


def photographs(folder: Path) -> tuple[Manifest, pl.Series]:
    """Phantoms of three conditions that such a network tells apart, one in twenty with the label of another, and a few pictures of no skin; and the ids of those
    whose labels are wrong."""
    rendered = Phantom(per_class=60, image_size=64, seed=0, workers=1).load(folder)
    rendered = rendered.filter(pl.col("label").is_in(CLASSES))
    rng = np.random.default_rng(0)
    labels = rendered["label"].to_list()
    wrong = np.sort(rng.choice(len(labels), len(labels) // 20, replace=False))
    for row in wrong:
        labels[row] = rng.choice([name for name in CLASSES if name != labels[row]])
    table = rendered.select("path", "group_id").with_columns(label=pl.Series(labels))
    for number in range(STRANGE):  # text on a screen, or the like
        file = folder / f"strange{number}.png"
        pattern = rng.integers(0, 2, (8, 8, 3)).repeat(8, 0).repeat(8, 1) * 255
        Image.fromarray(pattern.astype(np.uint8)).save(file)
        strange = {"path": file.name, "group_id": f"strange{number}", "label": CLASSES[number % 3]}
        table = pl.concat([table, pl.DataFrame([strange])], how="diagonal")
    patients = table["group_id"].unique().sort().to_list()
    splits = {name: ("train", "val", "test")[number % 3] for number, name in enumerate(patients)}
    table = table.with_columns(
        image_id=pl.col("path"),
        split=pl.col("group_id").replace_strict(splits),
        source=pl.lit("real"), width=pl.lit(64), height=pl.lit(64),
        sha256=pl.Series([sha256_file(folder / path) for path in table["path"]]),
    )  # fmt: skip
    return Manifest(table, folder, CLASSES), table["image_id"][wrong]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, pl.Series]:
    pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    folder = tmp_path_factory.mktemp("real_labels")
    data, wrong = photographs(folder)
    (folder / "out").mkdir()
    audit_labels(BACKBONE, 64, PROBE, data=data, cache=None, device=torch.device("cpu"), out=folder / "out")
    data.write(folder)
    return folder, data, wrong


def test_most_of_the_wrong_labels_are_found(audited):
    folder, data, wrong = audited
    table = read_table(folder / "out")
    assert table["image_id"].to_list() == data.table["image_id"].to_list(), "nothing is dropped"
    found = set(table.filter("label_issue")["image_id"])
    assert len(found & set(wrong)) > 0.6 * len(wrong)
    assert len(found) < 0.25 * len(table), "and not by suspecting everybody"
    worst = table.sort("label_score").head(len(wrong))["image_id"]
    assert worst.is_in(wrong.to_list()).mean() > 0.4, "of the most doubtful; by chance it would be 0.05"
    assert table["label_score"].is_between(0, 1).all()
    assert set(table.filter("label_issue")["split"]) == {"train", "val", "test"}, "the test split too"


def test_pictures_of_something_else_are_off_topic(audited):
    table = read_table(audited[0] / "out")
    strange = table["image_id"].str.starts_with("strange")
    assert table.filter(strange)["off_topic"].all()
    assert table.filter(~strange)["off_topic"].mean() < 0.1
    assert table.filter(strange)["topic_score"].max() < table.filter(~strange)["topic_score"].quantile(0.03)


def test_counts_and_pictures_are_told(audited, capsys: pytest.CaptureFixture):
    folder, data, _ = audited
    table = read_table(folder / "out")
    print_labels(folder / "out")
    said = capsys.readouterr().out
    issues = table["label_issue"].sum()
    assert f"│ {issues} " in said or f"│ {issues}" in said.replace("  ", " ")
    assert "Nothing was dropped" in said
    shown = counts_table(folder / "out")
    assert [str(cell) for cell in shown.rows[-1]] == [
        "all", str(len(data)), str(len(data)), str(issues), str(table["off_topic"].sum())
    ]  # fmt: skip
    doubtful, strange = suspects(folder / "out", folder)
    assert len(doubtful) == min(issues, 24)
    assert all(picture.image.uri.startswith("data:image/jpeg") for picture in doubtful + strange)
    row = table.filter("label_issue").sort("label_score", "image_id").row(0, named=True)
    assert f"{row['label']} → {row['guess']}" in doubtful[0].text


def test_no_photograph_is_judged_by_a_probe_that_has_seen_its_patient():
    """A probe that knows neighbours by heart is sure of every patient it has seen, and knows nothing of others."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 3)
    labels = rng.integers(0, 2, 40)[groups]
    features = rng.normal(size=(40, 8))[groups] + rng.normal(0, 0.01, (120, 8))
    nearest = partial(KNeighborsClassifier, n_neighbors=1)
    found = out_of_fold(features, labels, groups, nearest, folds=5, seed=0)
    assert np.allclose(found.sum(1), 1)
    assert 0.25 < (found.argmax(1) == labels).mean() < 0.75


def test_classes_of_too_few_patients_are_not_judged(make_manifest, tmp_path: Path):
    pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    rows = [{"label": label, "group_id": f"{label}{i}"} for label in ("a", "b") for i in range(8)]
    data = make_manifest([*rows, {"label": "rare", "group_id": "one"}], size=32)
    network = partial(create_backbone, name="test_resnet", pretrained=False)
    device = torch.device("cpu")
    audit_labels(
        network, 32, PROBE, folds=4, neighbours=3, data=data, cache=None, device=device, out=tmp_path
    )
    table = read_table(tmp_path)
    assert table.filter(pl.col("guess").is_null())["label"].to_list() == ["rare"]
    with pytest.raises(InputError, match=r"neighbours=17: there are 17 photographs"):
        audit_labels(network, 32, PROBE, neighbours=17, data=data, cache=None, device=device, out=tmp_path)


def test_without_cleanlab_it_tells_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_manifest
):
    data = make_manifest([{"label": "a"}])
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(InputError, match=r"pip install 'skinaug\[labels\]'"):
        audit_labels(BACKBONE, 32, PROBE, data=data, cache=None, device=torch.device("cpu"), out=tmp_path)
    with pytest.raises(InputError, match=r"audit\.real_labels\.folds=1"):
        audit_labels(
            BACKBONE, 32, PROBE, folds=1, data=data, cache=None, device=torch.device("cpu"), out=tmp_path
        )
