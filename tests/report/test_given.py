"""Predictions made elsewhere: what a sweep exports gives the sweep's own figures, and tables that say nothing are refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn import metrics

from skinaug.cli.export import export_runs
from skinaug.cli.rerun import plan_rerun
from skinaug.errors import InputError
from skinaug.report import collect
from skinaug.report.given import read_given, told_by_name
from skinaug.report.report import report
from skinaug.report.stage import take_given
from skinaug.store.store import Store

CLASSES = ("acne", "eczema", "nevus")
UNKNOWN = ("real_min", "real_max", "repeated_min", "repeated_max", "synthetic_min", "synthetic_max")
ALIKE = ("differences", "recall", "calibration", "operating_points", "subgroups", "gap")


def reported(runs: list[collect.Run], out: Path, **settings) -> Path:
    out.mkdir()
    report(runs, num_resamples=50, out=out, **settings)
    return out


def runs_of(place: Path, store: Path) -> list[collect.Run]:
    return take_given(Store(store), place, read_given(place))


def drawn(seed: int, images: int = 60, strength: float = 1.0) -> pl.DataFrame:
    """Predictions of chance and some skill, in the columns of others: no prefix, numbers in text for ids."""
    labels = np.random.default_rng(0).integers(3, size=images)
    logits = np.random.default_rng(seed).normal(size=(images, 3)) + strength * np.eye(3)[labels]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    columns = {name: p[:, c].round(4) for c, name in enumerate(CLASSES)}
    about = {"image_id": [f"{i:03d}" for i in range(images)], "label": np.array(CLASSES)[labels]}
    return pl.DataFrame({**about, "patient": [f"p{i // 3}" for i in range(images)], **columns})


def write(folder: Path, **tables: pl.DataFrame) -> Path:
    """Tables by `<arm>_seed<k>`, as CSV files."""
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")
    return folder


def test_what_a_sweep_exports_gives_its_own_report(make_sweep: Callable[..., Path], tmp_path: Path):
    sweep = make_sweep(seeds=2)
    own = reported(collect.name_arms(collect.read_runs(sweep)), tmp_path / "own")
    assert export_runs(sweep, tmp_path / "predictions", "csv") == "1,728 rows of 8 runs"
    again = reported(runs_of(tmp_path / "predictions", tmp_path / "kept"), tmp_path / "again")
    for name in ALIKE:
        one, other = (pl.read_csv(out / f"{name}.csv", infer_schema_length=None) for out in (own, again))
        assert one.height or name == "gap"
        assert one.equals(other, null_equal=True), name
    one, other = (pl.read_csv(out / "arms.csv") for out in (own, again))
    assert one.drop(UNKNOWN).equals(other.drop(UNKNOWN))
    assert other.select(UNKNOWN).null_count().sum_horizontal().item() == 4 * len(UNKNOWN), "nobody knows"
    page, text = (again / "report.html").read_text(), (again / "report.md").read_text()
    for said in (page, text):
        assert "because these predictions were made elsewhere" in said
        assert "No patients are told" not in said
        assert "Each class against the rest" in said
        assert "Left out: subgroups" not in said
        for absent in ("Leak certificate", "Cost</h2>", "## Cost", "Real and synthetic images<", "<h2>Data<"):
            assert absent not in said


def test_taken_predictions_are_kept_once_and_no_job_makes_them_again(tmp_path: Path):
    place, store = write(tmp_path / "mine", a_seed0=GOOD), Store(tmp_path / "store")
    (run,) = runs_of(place, store.root)
    assert run == runs_of(place, store.root)[0]
    (kept,) = store.artifacts()
    with pytest.raises(InputError, match="was made of files outside the store"):
        plan_rerun(kept)
    write(place, a_seed0=drawn(4))
    assert runs_of(place, store.root)[0].artifacts != run.artifacts, "other content, another artifact"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_of_others_are_scored_as_scikit_learn_does(form: str, tmp_path: Path):
    tables = {("resnet", 0): drawn(1), ("resnet", 1): drawn(2), ("vit", 0): drawn(3, strength=2.0)}
    for (arm, seed), table in tables.items():
        (tmp_path / "mine" / arm).mkdir(parents=True, exist_ok=True)
        shuffled = table.sample(fraction=1.0, shuffle=True, seed=seed)
        file = tmp_path / "mine" / arm / f"{seed}.{form}"
        shuffled.write_csv(file) if form == "csv" else shuffled.write_parquet(file)
    out = reported(runs_of(tmp_path / "mine", tmp_path / "store"), tmp_path / "out", baseline="vit")
    found = {row["arm"]: row for row in pl.read_csv(out / "arms.csv").iter_rows(named=True)}
    for arm in ("resnet", "vit"):
        own = [table for (name, _), table in tables.items() if name == arm]
        aurocs = [
            metrics.roc_auc_score(t["label"], t.select(CLASSES).to_numpy() / t.select(CLASSES).to_numpy().sum(1, keepdims=True), multi_class="ovr")
            for t in own
        ]  # fmt: skip
        guesses = [np.array(CLASSES)[t.select(CLASSES).to_numpy().argmax(1)] for t in own]
        right = [metrics.accuracy_score(t["label"], guess) for t, guess in zip(own, guesses, strict=True)]
        assert found[arm]["top1"] == pytest.approx(np.mean(right))
        assert found[arm]["auroc"] == pytest.approx(np.mean(aurocs), abs=1e-3)
        assert found[arm]["test_images"] == 60
    text = (out / "report.md").read_text()
    assert "Without predictions, though other arms or seeds have them: vit (seed 1)." in text
    for section in ("each class against the rest", "subgroups of patients"):
        assert f"Left out: {section}" in text


def test_images_without_patients_are_told(tmp_path: Path):
    place = write(tmp_path / "mine", a_seed0=drawn(1).drop("patient"), b_seed0=drawn(2).drop("patient"))
    out = reported(runs_of(place, tmp_path / "store"), tmp_path / "out")
    assert "each test image counts as a patient of its own" in (out / "report.md").read_text()


def test_attributes_make_subgroups_and_what_is_not_read_is_told(tmp_path: Path):
    about = {"skin_type": pl.Series(["1", "VI", "?"] * 20), "fold": pl.lit("a"), "note": pl.lit("x")}
    given = read_given(write(tmp_path / "mine", a_seed0=drawn(1).with_columns(**about)))
    assert given.unread == ["fold", "note"]
    assert given.table["skin_type"].to_list()[:3] == ["I", "VI", None]
    assert given.table["image_id"][1] == "001", "a name of digits is a name"


def test_validation_rows_choose_thresholds(tmp_path: Path):
    rows = [
        drawn(seed).with_columns(
            split=pl.lit(split), image_id=split + pl.col("image_id"), patient=split + pl.col("patient")
        )
        for seed, split in ((1, "test"), (2, "validation"))
    ]
    table = pl.concat(rows).with_columns(arm=pl.lit("mine, at 1:2"), seed=pl.lit(3))
    out = reported(runs_of(write(tmp_path / "mine", whatever=table), tmp_path / "store"), tmp_path / "out")
    points = pl.read_csv(out / "operating_points.csv")
    assert points["arm"].unique().to_list() == ["mine, at 1:2"]
    assert points["validation_images"].sum() == points["test_images"].sum() == 60
    (run,) = pl.read_csv(out / "runs.csv").iter_rows(named=True)
    guess = rows[1].select(CLASSES).to_numpy().argmax(1)
    assert run["val_top1"] == pytest.approx((np.array(CLASSES)[guess] == rows[1]["label"].to_numpy()).mean())


@pytest.mark.parametrize(
    ("name", "arm", "seed"),
    [
        ("real_seed0.csv", "real", "0"),
        ("real-small_seed_12.parquet", "real-small", "12"),
        ("hybrid/3.parquet", "hybrid", "3"),
        ("hybrid/seed3.csv", "hybrid", "3"),
        ("vit/ratio=1, a_b_seed2.csv", "vit/ratio=1, a_b", "2"),
        ("3.csv", None, None),
        ("real.csv", None, None),
    ],
)
def test_arm_and_seed_are_told_by_the_name(name: str, arm: str | None, seed: str | None):
    assert told_by_name(name) == (arm, seed)


GOOD = drawn(1)
FAULTS = {
    "column": (GOOD.drop("label"), r"a_seed0\.csv: lacks the columns label; it has image_id, patient"),
    "label": (GOOD.with_columns(label=pl.lit("measles")), "labels that no column has: measles; its classes are acne"),
    "text": (GOOD.with_columns(acne=pl.lit("0,3")), "no column has: acne; .* Not read, because they hold text: acne"),
    "logits": (GOOD.with_columns(acne=pl.col("acne") * 9 - 4), r"outside 0 to 1 in \d+ of 60 .* write the softmax"),
    "sums": (GOOD.with_columns(acne=pl.col("acne") / 2), r"\d+ of 60 rows that do not sum to 1 .* row 1 sums to 0"),
    "fold": (GOOD.with_columns(fold=pl.lit(3)), "values outside 0 to 1 in 60 of 60 rows of acne, eczema, nevus, fold"),
    "missing": (GOOD.with_columns(acne=pl.when(pl.col("acne") < 0.3).then("acne")), "has no number in"),
    "images": (pl.concat([GOOD, GOOD[:7]]), "has 7 images more than once in a run: 000, 001, 002, 003, 004 and 2 more"),
    "train": (GOOD.with_columns(split=pl.lit("train")), "rows of the split train"),
    "seed": (GOOD.with_columns(seed=pl.lit("one")), "seeds that are no whole numbers: one"),
    "patient": (GOOD.with_columns(patient=pl.lit(None, pl.String)), "has no group_id in 60 of 60 rows"),
    "nothing": (GOOD.select("image_id", "label"), "holds no column of numbers"),
    "test": (GOOD.with_columns(split=pl.lit("val")), "has no test images of a, seed 0"),
    "rows": (GOOD.clear(), "has no rows"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_that_says_nothing_is_refused_by_its_name(fault: str, tmp_path: Path):
    table, message = FAULTS[fault]
    with pytest.raises(InputError, match=message):
        read_given(write(tmp_path / "mine", a_seed0=table, b_seed0=GOOD))


TOGETHER = {
    "images": (GOOD[1:], "Not all runs were judged on the 60 test images of a, seed 0:\n  b, seed 0: 1 of them missing, 0 others"),
    "classes": (GOOD.rename({"acne": "burn"}).filter(pl.col("label") != "acne"), "other classes than acne, eczema, nevus .*\n.*burn"),
    "labels": (GOOD.with_columns(label=pl.col("label").reverse()), "images have other labels in one run"),
    "patients": (GOOD.with_columns(patient=pl.lit("p")), "images have other patients in one run"),
    "run": (GOOD.with_columns(arm=pl.lit("a")), r"Several tables are of the same arm and seed:\n  a, seed 0: a_seed0\.csv, b_seed0\.csv"),
}  # fmt: skip


@pytest.mark.parametrize("fault", TOGETHER)
def test_tables_that_cannot_be_held_against_each_other_are_refused(fault: str, tmp_path: Path):
    table, message = TOGETHER[fault]
    with pytest.raises(InputError, match=message):
        read_given(write(tmp_path / "mine", a_seed0=GOOD, b_seed0=table))


def test_a_patient_of_validation_and_test_is_refused(tmp_path: Path):
    half = GOOD.with_columns(split=pl.Series(["test", "val"] * 30))
    with pytest.raises(InputError, match="20 patients have images in validation and test"):
        read_given(write(tmp_path / "mine", a_seed0=half))


def test_other_files_are_never_opened(tmp_path: Path):
    place = write(tmp_path / "mine", a_seed0=GOOD)
    (place / ".DS_Store").write_text("")
    assert_frame_equal(read_given(place).table, read_given(place / "a_seed0.csv").table)
    (place / "b_seed0.parquet").write_text("half a")
    (place / "c_seed0.csv").write_bytes("image_id,label\n1,é\n".encode("latin1"))
    with pytest.raises(InputError, match=r"2 of 3 tables(.|\n)*no Parquet file(.|\n)*not UTF-8"):
        read_given(place)
    (place / "d_seed0.pkl").write_bytes(pickle.dumps(GOOD))
    with pytest.raises(InputError, match=r"1 file .*\n  d_seed0\.pkl\n.* pickles are never opened"):
        read_given(place)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no predictions"):
        read_given(tmp_path / "empty")
