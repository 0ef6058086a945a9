"""Subgroups of a drawn sweep against plain counting, and no claims in simulated studies without differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from skinaug.errors import InputError
from skinaug.manifest import Manifest, read_once
from skinaug.report import collect, measure, statistics, subgroups
from skinaug.report.collect import Study
from skinaug.report.report import check_asked
from skinaug.report.settings import Asked


@pytest.fixture
def study(make_sweep: Callable[..., Path]) -> Study:
    return collect.make_study(collect.read_runs(make_sweep()))


def frame_of(study: Study) -> pl.DataFrame:
    return subgroups.subgroups_frame(study, measure.draw(study.predictions, 200, 0))


def plain(study: Study, arm: str, inside: pl.Expr) -> tuple[int, int, float]:
    """Images, patients and top-1 of an arm by joining its predictions with the data set's table."""
    table = Manifest.read(study.runs[0].artifacts["dataset"]).table.filter(inside, pl.col("split") == "test")
    top1 = []
    for run in study.of(arm):
        rows = pl.read_parquet(run.artifacts["classify"] / "predictions.parquet").filter(
            pl.col("split") == "test"
        )
        rows = rows.join(table.select("image_id"), on="image_id")
        top1.append((rows["label"] == rows["prediction"]).to_numpy().mean())
    return table.height, table["group_id"].n_unique(), float(np.mean(top1))


@pytest.mark.parametrize(
    ("attribute", "subgroup", "inside"),
    [
        ("skin_type", "III", pl.col("skin_type") == "III"),
        ("sex", "female", pl.col("sex") == "female"),
        ("age", "18 to 39", (pl.col("age") >= 18) & (pl.col("age") < 40)),
        ("age", "60 and over", pl.col("age") >= 60),
        ("age", "not stated", pl.col("age").is_null()),
    ],
)
def test_a_subgroup_equals_plain_counting(study: Study, attribute: str, subgroup: str, inside: pl.Expr):
    rows = frame_of(study).filter(pl.col("attribute") == attribute, pl.col("subgroup") == subgroup)
    by_arm = {row["arm"]: row for row in rows.iter_rows(named=True)}
    for arm, row in by_arm.items():
        images, patients, top1 = plain(study, arm, inside)
        assert (row["images"], row["patients"], row["top1"]) == (images, patients, pytest.approx(top1))
        assert row["low_adjusted"] < row["low"] < row["top1"] < row["high"] < row["high_adjusted"]
        assert row["difference"] == (
            None if arm == "real_small" else pytest.approx(top1 - by_arm["real_small"]["top1"])
        )


def test_a_column_that_these_data_alone_have_makes_subgroups(make_sweep: Callable[..., Path], tmp_path: Path):
    folder = make_sweep()
    data = tmp_path / "sweep-store" / "dataset"
    real = Manifest.read(data)
    hospital = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("Nord")).otherwise(pl.lit("St. Mary"))
    real.with_table(real.table.with_columns(hospital=hospital, note=pl.lit(None, pl.String))).write(data)
    study = collect.make_study(collect.read_runs(folder))
    draws = measure.draw(study.predictions, 200, 0)
    frame = subgroups.subgroups_frame(study, draws, [("hospital",), ("sex", "hospital")])
    assert set(frame["attribute"]) == {"hospital", "sex+hospital"}
    row = frame.row(by_predicate=(pl.col("arm") == "real") & (pl.col("subgroup") == "Nord"), named=True)
    images, patients, top1 = plain(study, "real", pl.col("hospital") == "Nord")
    assert (row["images"], row["patients"], row["top1"]) == (images, patients, pytest.approx(top1))
    titles = [cells[0].text for cells in subgroups.subgroups_table(frame, study.arms).rows]
    assert {"Hospital: Nord", "Hospital: St. Mary", "Sex and hospital: female, Nord"} <= set(titles)
    check_asked(study, Asked(["hospital", ["sex", "hospital"]]))
    for name, told in (
        ("hospitl", "attributes are .*, hospital"),
        ("note", "asks for note, but the test images tell"),
    ):
        with pytest.raises(InputError, match=told):
            check_asked(study, Asked([name]))


def test_small_subgroups_are_not_scored(study: Study):
    frame = frame_of(study)
    few = frame.filter((pl.col("images") < 20) | (pl.col("patients") < 10))
    assert ("skin_type", "VI") in few.select("attribute", "subgroup").unique().rows()
    assert not few["scored"].any()
    assert not few["worst"].any()
    assert few["top1"].null_count() == few["difference"].null_count() == few.height
    assert frame.filter(pl.col("scored"))["top1"].null_count() == 0
    shown = subgroups.subgroups_table(frame, study.arms)
    words = {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows}
    assert words["Skin type (Fitzpatrick): VI"] == ["too few"] * 4
    assert few.select("attribute", "subgroup").n_unique() == 1
    assert "1 more is not scored, with fewer than 20 images or 10 patients." in subgroups.caution(frame)


def test_the_worst_subgroup_is_the_lowest_that_is_stated(study: Study):
    frame = frame_of(study)
    for (arm,), part in frame.group_by("arm"):
        stated = part.filter(pl.col("scored") & (pl.col("subgroup") != "not stated"))
        worst = part.filter("worst")
        assert worst.height == 1, arm
        assert worst["top1"].item() == stated["top1"].min()
    table = subgroups.worst_table(frame, measure.arms_frame(study, measure.measure(study, 50, 0)))
    assert table is not None
    assert [row[0].text for row in table.rows] == study.arms
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_a_subgroup_that_an_arm_harms_is_told(make_sweep: Callable[..., Path]):
    """An arm that errs on women alone."""
    study = collect.make_study(collect.read_runs(make_sweep(seeds=5, tests=60)))
    sex = dict(Manifest.read(study.runs[0].artifacts["dataset"]).table.select("image_id", "sex").iter_rows())
    rng = np.random.default_rng(0)
    for run, predictions in zip(study.runs, study.predictions, strict=True):
        p, labels = predictions.probabilities, predictions.labels
        women = np.array([sex[image] == "female" for image in predictions.images])
        p[:] = study.predictions[0].probabilities + 0.02 * rng.uniform(size=p.shape)
        wrong = women & (rng.uniform(size=len(labels)) < 0.8)
        if run.arm == "hybrid":
            p[wrong] = np.eye(6)[(labels[wrong] + 1) % 6]
    told = frame_of(study).filter(pl.col("verdict") == measure.HARMS)
    assert set(told["arm"]) == {"hybrid"}
    assert "female" in told["subgroup"]
    assert "male" not in told["subgroup"]
    assert (told["difference_high_adjusted"] < 0).all()


def test_without_attributes_there_are_no_subgroups(study: Study):
    folder = study.runs[0].artifacts["dataset"]
    real = Manifest.read(folder)
    real.with_table(real.table.drop("skin_type", "sex", "age")).write(folder)
    read_once.cache_clear()
    frame = frame_of(study)
    assert frame.height == 0
    assert frame.columns == list(subgroups.SUBGROUPS)


def simulated_arm(
    hardness: np.ndarray,
    inside: np.ndarray,
    groups: np.ndarray,
    draws: measure.Draws,
    rng: np.random.Generator,
) -> subgroups.Top1:
    """Three seeds of an arm that differs from others by chance alone."""
    right = hardness + rng.normal(0, 0.1, (3, 1)) + rng.normal(size=(3, len(hardness))) > 0
    terms = [{"images": inside * 1.0, "right": inside * one[:, None] * 1.0} for one in right]
    sums = [statistics.group_sums(one, groups, draws.counts.shape[1]) for one in terms]
    with np.errstate(invalid="ignore"):
        return subgroups.Top1(
            [0, 1, 2], *(found["right"] / found["images"] for found in draws.resample(sums))
        )


def test_few_false_claims_where_no_arm_differs():
    """Three seeds, three arms and twenty subgroups: 60 comparisons, of which the family may claim one in 5 % of studies."""
    rng = np.random.default_rng(7)
    num_groups, num_images, claims = 100, 250, 0
    for _ in range(60):
        groups = np.sort(rng.integers(num_groups, size=num_images))
        by_patient = [(rng.integers(n, size=num_groups)[groups], n) for n in (6, 2, 4)]
        by_image = [(rng.integers(8, size=num_images), 8)]
        inside = np.concatenate(
            [values[:, None] == np.arange(n) for values, n in (*by_patient, *by_image)], 1
        )
        hardness = 1 + rng.normal(size=num_groups)[groups] + rng.normal(size=num_images)
        draws = measure.Draws({}, statistics.draw_counts(num_groups, num_groups - 1, 200, rng))
        baseline, *others = (simulated_arm(hardness, inside, groups, draws, rng) for _ in range(4))
        pairs = [(str(i), *subgroups._difference(arm, baseline)) for i, arm in enumerate(others)]
        keys = pl.DataFrame(
            {"attribute": "x", "subgroup": [str(k) for k in range(20)], "images": inside.sum(0)}
        )
        told = subgroups._differences(pairs, keys.with_columns(patients=pl.lit(20)))
        claims += bool((told["verdict"] != measure.UNDECIDED).any())
    assert claims / 60 <= 0.1


def test_without_a_scored_subgroup_nothing_is_said_of_the_worst():
    few = {"attribute": "sex", "subgroup": "male", "scored": False, "seeds": None}
    frame = pl.DataFrame([few], schema_overrides={"seeds": pl.Int64})
    assert subgroups.caution(frame) == subgroups.caution(frame.clear()) == ""


def test_ids_that_are_paths_are_found(study: Study, make_sweep: Callable[..., Path]):
    runs = collect.read_runs(make_sweep("paths"))
    folder = runs[0].artifacts["dataset"]
    named = pl.format("acne/{}.png", "image_id")  # as a folder of photographs names them
    manifest = Manifest.read(folder)
    manifest.with_table(manifest.table.with_columns(image_id=named)).write(folder)
    for run in runs:
        file = run.artifacts["classify"] / "predictions.parquet"
        pl.read_parquet(file).with_columns(image_id=named).write_parquet(file)
    names, inside = subgroups.members(collect.make_study(runs))
    expected, plain_inside = subgroups.members(study)
    assert names == expected
    assert all((one == other).all() for one, other in zip(inside, plain_inside, strict=True))
