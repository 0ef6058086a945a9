"""The audit of a pool: copies planted in it are told, fidelity compares sets of equal size, test images are not measured."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from skinaug.audit.pool import FIDELITY, attributes_table, audit_pool, copies_found, print_audit
from skinaug.dataset.phantom.source import Phantom
from skinaug.errors import InputError
from skinaug.manifest import SYNTHETIC, Manifest
from skinaug.models.backbone import create_backbone
from skinaug.models.trainer import make_trainer
from skinaug.store.digest import sha256_file

AUDIT = partial(
    audit_pool,
    partial(create_backbone, "tf_efficientnet_lite0"),
    64,
    num_replicates=4,
    trainer=partial(make_trainer, accelerator="cpu"),
)


def phantoms(folder: Path, seed: int, per_class: int) -> Manifest:
    folder.mkdir()
    table = Phantom(per_class, 64, seed, workers=1).load(folder)
    digests = pl.Series([sha256_file(folder / path) for path in table["path"]])
    table = table.with_columns(
        split=pl.lit("train"), source=pl.lit("real"), width=64, height=64, sha256=digests,
        group_id=pl.col("group_id") + f"-{seed}", image_id=pl.col("image_id") + f"-{seed}",
    )  # fmt: skip
    return Manifest(table, folder, tuple(sorted(table["label"].unique())))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Manifest:
    """Phantoms; the test split has pictures that are not there, so that looking at one of them fails."""
    manifest = phantoms(tmp_path_factory.mktemp("data") / "real", 0, 60)
    patients = manifest.table["group_id"].unique(maintain_order=True).to_list()
    held_out = dict.fromkeys(patients[::4], "val") | dict.fromkeys(patients[1::8], "test")
    split = pl.col("group_id").replace_strict(held_out, default="train")
    table = manifest.table.with_columns(split=split)
    for path in table.filter(pl.col("split") == "test")["path"]:
        (manifest.root / path).unlink()
    return manifest.with_table(table)


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Manifest:
    """A pool as good as a fresh set of photographs."""
    manifest = phantoms(tmp_path_factory.mktemp("pool") / "images", 9, 25)
    made = manifest.table.with_columns(pl.lit("1").alias(name) for name in SYNTHETIC)
    return manifest.with_table(made.with_columns(source=pl.lit("synthetic")))


@pytest.fixture(scope="module")
def copied(honest: Manifest, data: Manifest) -> Manifest:
    """The same pool with every fifth picture replaced by a training photograph, saved anew as JPEG."""
    train = data.split("train")
    rows = []
    for number, row in enumerate(honest.table.iter_rows(named=True)):
        if number % 5 == 0:
            path = honest.root / "images" / f"copy-{number}.jpg"
            Image.open(train.paths()[number]).save(path, quality=92)
            row = {**row, "path": f"images/{path.name}", "sha256": sha256_file(path)}
        rows.append(row)
    return honest.with_table(pl.DataFrame(rows, schema=honest.table.schema))


def audited(data: Manifest, raw: Manifest, out: Path, **settings) -> dict:
    out.mkdir(exist_ok=True)
    curated = raw.where(pl.int_range(pl.len()) % 3 != 0)
    AUDIT(data=data, raw=raw, curated=curated, cache=None, out=out, **settings)
    return json.loads((out / "memorisation.json").read_text())


def test_an_honest_pool_is_not_accused_and_its_files_are_whole(data, honest, tmp_path, capsys):
    found = audited(data, honest, tmp_path)
    assert not found["raw"]["accused"]
    assert not found["curated"]["accused"]
    fidelity = pl.read_csv(tmp_path / "fidelity.csv", schema=FIDELITY)
    sizes = fidelity.group_by("label").agg(pl.col("images").n_unique(), pl.col("set").n_unique())
    assert set(sizes["images"]) == {1}, "sets of a class are compared at equal size"
    overall = fidelity.filter((pl.col("label") == "all") & (pl.col("metric") == "kid"))
    kid = dict(overall.select("set", "value").iter_rows())
    assert abs(kid["raw"]) < 5 * abs(overall["high"] - overall["value"]).max()
    assert {"raw", "curated", "real, held out"} == set(kid)
    attributes = pl.read_csv(tmp_path / "attributes.csv")
    assert attributes["images"].sum() == len(honest)
    assert attributes["kept"].sum() == len(honest) * 2 // 3
    print_audit(tmp_path)
    assert "no sign of copying" in capsys.readouterr().out


def test_a_pool_with_copies_is_accused_and_the_pairs_are_named(data, copied, tmp_path):
    found = audited(data, copied, tmp_path)
    assert found["raw"]["accused"]
    assert found["raw"]["copies"] == pytest.approx(len(copied) / 5, rel=0.2)
    nearest = pl.read_parquet(tmp_path / "memorisation.parquet")
    planted = copied.table["path"].str.contains("copy-")
    train = data.split("train").table["image_id"]
    originals = train.gather(np.flatnonzero(planted.to_numpy()))
    assert (nearest.filter(planted)["nearest"] == originals).mean() > 0.9


def test_a_worse_pool_scores_worse(data, honest, tmp_path):
    """Half of the pool is one picture again and again: less recall, coverage and diversity, and a larger distance."""
    table = honest.table
    one = table.row(0, named=True)
    same = pl.int_range(pl.len()) % 2 == 0
    spoilt = table.with_columns(
        pl.when(same).then(pl.lit(one[name])).otherwise(pl.col(name)).alias(name)
        for name in ("path", "sha256")
    )
    values = {}
    for name, pool in {"good": honest, "bad": honest.with_table(spoilt)}.items():
        audited(data, pool, tmp_path / name)
        frame = pl.read_csv(tmp_path / name / "fidelity.csv", schema=FIDELITY)
        overall = frame.filter((pl.col("label") == "all") & (pl.col("set") == "raw"))
        values[name] = dict(overall.select("metric", "value").iter_rows())
    for metric in ("fid", "kid", "cmmd"):
        assert values["bad"][metric] > values["good"][metric], metric
    for metric in ("coverage", "vendi"):
        assert values["bad"][metric] < values["good"][metric], metric


def test_features_of_ones_own(data, honest, tmp_path):
    rng = np.random.default_rng(0)
    ids = [*data.table["image_id"], *honest.table["image_id"]]
    pl.DataFrame({"image_id": ids, "features": rng.normal(size=(len(ids), 8)).tolist()}).write_parquet(
        tmp_path / "own.parquet"
    )
    audited(data, honest, tmp_path / "out", features=str(tmp_path / "own.parquet"))
    frame = pl.read_csv(tmp_path / "out" / "fidelity.csv", schema=FIDELITY)
    fid = frame.filter((pl.col("label") == "all") & (pl.col("metric") == "fid") & (pl.col("set") == "raw"))[
        "value"
    ][0]
    assert fid < 1, "white noise against white noise"
    pl.read_parquet(tmp_path / "own.parquet").head(5).write_parquet(tmp_path / "few.parquet")
    with pytest.raises(InputError, match="has no features of"):
        audited(data, honest, tmp_path / "out", features=str(tmp_path / "few.parquet"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"reference": "test"}, "reference=test: choose from train, val"),
        ({"false_positive_rate": 2}, "is no share"),
    ],
)
def test_bad_settings_are_refused(data, honest, tmp_path, settings, told):
    with pytest.raises(InputError, match=told):
        audited(data, honest, tmp_path, **settings)


def test_copies_are_counted_against_the_photographs():
    """Of 1,000 images 30 lie near; of 1,000 photographs 10 do: accused. Of 50 photographs none does: nothing is shown."""
    near = pl.Series([0.0] * 30 + [1.0] * 970)
    many, few = pl.Series([0.0] * 10 + [1.0] * 990), pl.Series([1.0] * 50)
    assert copies_found(near, many, 0.01)["accused"]
    assert not copies_found(near, few, 0.01)["accused"]
    assert copies_found(pl.Series([], dtype=pl.Float64), many, 0.01)["share"] is None


def test_attributes_are_counted_as_asked_and_as_measured(honest):
    raw = honest.with_table(
        honest.table.head(4).with_columns(skin_type=pl.Series(["I", "I", None, "VI"])).drop("body_site")
    )
    measured = raw.table.select(
        "image_id", tone=pl.Series([1, 2, 3, 6]), lesion_area_share=pl.Series([0.0, 0.01, 0.1, 0.5])
    )
    table = attributes_table(raw, measured, raw.with_table(raw.table.head(1)))
    asked = table.sort("tone").select("skin_type", "tone", "size", "images", "kept").rows()
    assert asked == [
        ("I", 1, "none", 1, 1),
        ("I", 2, "small", 1, 0),
        ("", 3, "medium", 1, 0),
        ("VI", 6, "large", 1, 0),
    ]
    assert set(table["body_site"]) == {""}
