"""A sweep over folds through the command line: one pool for all folds, a report over all patients, and what plans and exports say."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from commands import skinaug
from rendered import SIZES

SWEEP = [
    *(
        "-m",
        "folds=2",
        "folds.refit=classify",
        "seed=0",
        "mix=real_small,hybrid",
        "base=oracle",
        "classify=probe",
    ),
    *(size for size in SIZES if not size.startswith("mix.") and "phantom_per_class" not in size),
    *("scale.phantom_per_class=24", "classify.steps=20"),
    "audit.pool.obedience=null",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folded")
    skinaug("classify", *SWEEP, cwd=folder, check=True)
    return folder


def artifacts(study: Path, stage: str) -> list[dict]:
    return [
        json.loads(file.read_text()) for file in sorted((study / "store" / stage).glob("*/artifact.json"))
    ]


def test_one_pool_serves_all_folds_and_has_seen_no_test_patient(study: Path):
    assert len(artifacts(study, "generate")) == 1
    assert len(artifacts(study, "curate")) == 1
    assert len(artifacts(study, "classify")) == 4
    data = [
        (record["config"], pl.read_parquet(study / "store" / "dataset" / record["key"] / "manifest.parquet"))
        for record in artifacts(study, "dataset")
    ]
    (reserve,) = (table.filter(pl.col("split") == "train") for config, table in data if "fold" not in config)
    tests = [table.filter(pl.col("split") == "test") for config, table in data if "fold" in config]
    judged = [set(table["group_id"]) for table in tests]
    assert len(judged) == 2
    assert not judged[0] & judged[1]
    assert not set(reserve["group_id"]) & (judged[0] | judged[1])
    assert judged[0] | judged[1] | set(reserve["group_id"]) == set(data[0][1]["group_id"])


def test_the_report_is_over_all_patients(study: Path):
    (said,) = (file.read_text() for file in study.glob("outputs/adhoc/*/report/report.md"))
    assert "2 folds: each of" in said
    assert "the spread over folds stands for the chance of training" in said
    assert "One generator, one pool and one set of filters serve all folds" in said
    assert "holds (2 of 2 runs)" in said
    (arms,) = (pl.read_csv(file) for file in study.glob("outputs/adhoc/*/report/arms.csv"))
    assert arms["arm"].to_list() == ["real_small", "hybrid"]
    judged = [pl.read_parquet(file) for file in study.glob("store/classify/*/predictions.parquet")]
    images = pl.concat([table.filter(pl.col("split") == "test").select("image_id") for table in judged])
    assert arms["test_images"].to_list() == [images["image_id"].n_unique()] * 2


def test_the_plan_tells_what_folds_cost_and_that_nothing_is_left_to_do(study: Path):
    done = skinaug("plan", *SWEEP, cwd=study, check=True).stdout
    assert "4 jobs, 0 artifacts to build: nothing." in done
    assert "2 folds, " in done


def test_exports_have_each_image_once_an_arm(study: Path):
    (sweep,) = (study / "outputs" / "adhoc").iterdir()
    skinaug("export", str(sweep), "exported", cwd=study, check=True)
    table = pl.read_csv(study / "exported" / "predictions.csv")
    assert set(table["split"]) == {"test"}
    assert not table.select("arm", "seed", "image_id").is_duplicated().any()
