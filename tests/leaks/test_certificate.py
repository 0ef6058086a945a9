"""Planted leaks of every kind are found, and what cannot be shown counts as one."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from skinaug.errors import InputError
from skinaug.leaks.certificate import CHECKS, certify, require
from skinaug.leaks.lineage import audit_artifact, certify_training
from skinaug.leaks.seen import read_seen, real_rows, write_seen
from skinaug.manifest import SYNTHETIC, Manifest
from skinaug.store.artifact import Artifact, Recipe
from skinaug.store.store import Store

NO_COPIES = pl.DataFrame(schema={"image_id": pl.String, "other_id": pl.String})


@pytest.fixture
def data(make_manifest) -> Manifest:
    """i0 to i5 train, i6 and i7 val, i8 and i9 test; two pictures a patient and lesion."""
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    return make_manifest(
        [
            {"label": "ab"[i % 2], "split": split, "group_id": f"p{i // 2}", "lesion_id": f"l{i // 2}"}
            for i, split in enumerate(splits)
        ]
    )


def train_rows(data: Manifest) -> pl.DataFrame:
    return real_rows(data.split("train"))


def test_a_clean_lineage_holds(data: Manifest):
    found = certify(data, NO_COPIES, {"training": train_rows(data), "generate": real_rows(None)})
    assert found["holds"]
    assert found["faults"] == []
    assert found["held_out"] == {split: {"images": 2, "patients": 1} for split in ("val", "test")}
    assert found["places"]["training"] == {"photographs": 6, **dict.fromkeys(CHECKS, 0)}
    assert found["places"]["generate"]["photographs"] == 0
    require(found, "training images")


def swapped(rows: pl.DataFrame, **values: str) -> pl.DataFrame:
    """The first row with other values."""
    first = rows.head(1).with_columns(pl.lit(value).alias(name) for name, value in values.items())
    return pl.concat([first, rows[1:]])


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("check", ["image", "content", "patient", "lesion", "near-copy", "unknown"])
def test_each_kind_of_leak_is_found_alone(data: Manifest, check: str, split: str):
    held_out = data.split(split).table.row(0, named=True)
    rows, copies = train_rows(data), NO_COPIES
    if check == "image":
        rows = swapped(rows, image_id=held_out["image_id"])
    elif check == "content":
        rows = swapped(rows, sha256=held_out["sha256"])
    elif check == "patient":
        rows = swapped(rows, group_id=held_out["group_id"])
    elif check == "lesion":
        rows = swapped(rows, lesion_id=held_out["lesion_id"])
    elif check == "near-copy":
        copies = pl.DataFrame({"image_id": ["i0"], "other_id": [held_out["image_id"]]})
    else:
        rows = swapped(rows, sha256="0" * 64)
    found = certify(data, copies, {"score.ensemble": rows, "training": train_rows(data)[1:]})
    assert not found["holds"]
    hits = {
        name: count for name, count in found["places"]["score.ensemble"].items() if name in CHECKS and count
    }
    assert hits == {"image" if check == "content" else check: 1}
    assert len(found["faults"]) == 1 + (check == "near-copy")
    assert found["faults"][-1].startswith("score.ensemble: ")
    with pytest.raises(
        InputError, match="It cannot be shown that validation and test photographs stayed out"
    ):
        require(found, "training images")


def test_a_near_copy_in_the_data_is_told_whether_it_was_drawn_or_not(data: Manifest):
    copies = pl.DataFrame({"image_id": ["i0"], "other_id": ["i8"]})
    found = certify(data, copies, {"training": train_rows(data)[1:]})
    assert not found["holds"]
    assert found["places"]["training"]["near-copy"] == 0
    assert found["faults"] == ["data set: i0 is a near-copy of i8, which is held out in another split"]


def test_what_cannot_be_shown_does_not_hold(data: Manifest):
    unnoted = certify(data, NO_COPIES, {"finetune": None})
    assert not unnoted["holds"]
    assert unnoted["faults"] == ["finetune has not noted which photographs it was given"]
    unsearched = certify(data, None, {"training": train_rows(data)})
    assert not unsearched["holds"]
    assert "were not looked for" in unsearched["faults"][0]


def test_unknown_lesions_are_not_one_lesion(data: Manifest):
    nameless = data.with_table(data.table.with_columns(lesion_id=pl.lit(None, pl.String)))
    assert certify(nameless, NO_COPIES, {"training": train_rows(nameless)})["holds"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make(store: Store, name: str, fill, **inputs: str) -> Artifact:
    kind = name.partition(".")[0]
    return store.get(Recipe(kind, 1, {"name": name}, inputs), fill)


@pytest.fixture
def lineage(store: Store, data: Manifest) -> dict[str, Artifact]:
    """A study's artifacts, as the pipeline makes them."""
    train = data.split("train")

    def noted(out: Path) -> None:
        write_seen(train, out)

    made = {"dataset": make(store, "dataset", lambda out: data.write(out))}
    key = made["dataset"].key
    made["copies"] = make(
        store, "copies", lambda out: NO_COPIES.write_parquet(out / "copies.parquet"), dataset=key
    )
    made["finetune"] = make(store, "finetune", noted, dataset=key, weights="d" * 64)
    made["generate"] = make(
        store, "generate", lambda out: write_seen(None, out), finetune=made["finetune"].key
    )
    for name in ("score.non_skin", "score.ensemble"):
        made[name] = make(store, name, noted, generate=made["generate"].key, dataset=key)
    scores = {name: made[name].key for name in ("score.non_skin", "score.ensemble")}
    made["curate"] = make(store, "curate", lambda out: None, generate=made["generate"].key, **scores)
    mix_inputs = {name: made[name].key for name in ("dataset", "copies", "curate")}
    made["mix"] = make(store, "mix", lambda out: train.write(out), **mix_inputs)
    return made


def inputs(lineage: dict[str, Artifact]) -> dict[str, str]:
    return {name: lineage[name].key for name in ("dataset", "copies", "curate")}


def test_certificate_names_every_place_of_the_lineage(store, lineage, data: Manifest, tmp_path: Path):
    certify_training(store, inputs(lineage), data.split("train"), tmp_path)
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    assert certificate["holds"]
    photographs = {name: counts["photographs"] for name, counts in certificate["places"].items()}
    assert photographs == {
        "score.non_skin": 6,
        "score.ensemble": 6,
        "finetune": 6,
        "prompts, generate": 0,
        "training": 6,
    }
    assert certificate["not_covered"][0] == "what the base model was trained on before it came here"
    for artifact in lineage.values():
        assert audit_artifact(store, artifact)["holds"], artifact.stage
    assert "training" in audit_artifact(store, lineage["mix"])["places"]


@pytest.mark.parametrize("place", ["finetune", "score.ensemble", "generate"])
def test_a_test_photograph_far_up_the_lineage_stops_the_training(store, lineage, data, tmp_path, place: str):
    write_seen(data.where(pl.col("split") != "val"), lineage[place].path)
    with pytest.raises(InputError, match=f"{place}: i8 is a held-out photograph"):
        certify_training(store, inputs(lineage), data.split("train"), tmp_path)
    assert not (tmp_path / "certificate.json").exists()


def test_a_mix_with_a_test_photograph_is_stopped(store, lineage, data, tmp_path):
    with pytest.raises(InputError, match="training: i9 is a held-out photograph"):
        certify_training(store, inputs(lineage), data, tmp_path)


def test_a_deleted_ancestor_and_a_missing_note_stop_the_training(store, lineage, data, tmp_path):
    (lineage["score.ensemble"].path / "seen.parquet").unlink()
    with pytest.raises(InputError, match=r"score\.ensemble has not noted"):
        certify_training(store, inputs(lineage), data.split("train"), tmp_path)
    store.remove(lineage["finetune"].path)
    with pytest.raises(InputError, match="is no longer in the store"):
        certify_training(store, inputs(lineage), data.split("train"), tmp_path)


def test_weights_that_learnt_from_another_data_set_are_refused(store, lineage, data, tmp_path):
    other = make(store, "dataset", lambda out: data.write(out), root="elsewhere")
    with pytest.raises(InputError, match="holds 2 data sets"):
        certify_training(store, {**inputs(lineage), "dataset": other.key}, data.split("train"), tmp_path)


def test_only_real_images_are_noted(data: Manifest, tmp_path: Path):
    made = pl.col("image_id").is_in(["i1", "i3", "i5"])
    source = pl.when(made).then(pl.lit("synthetic")).otherwise(pl.lit("real"))
    table = data.table.with_columns(pl.lit("1").alias(name) for name in SYNTHETIC).with_columns(source=source)
    write_seen(data.with_table(table.drop("lesion_id")), tmp_path)
    noted = read_seen(tmp_path)
    assert noted["image_id"].to_list() == ["i0", "i2", "i4", "i6", "i7", "i8", "i9"]
    assert noted["lesion_id"].null_count() == 7
