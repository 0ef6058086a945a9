"""The whole measuring chain against a known truth, through sweeps of the command line.

The synthetic images are rendered as the photographs are (gap 0), so one of them is worth one photograph; or show nothing of
their class (gap 1). Classifiers are linear probes.
"""

from __future__ import annotations

import os
from pathlib import Path

import commands
import polars as pl
import pytest

STUDY = (
    "base=oracle", "filter=[]", "classify=probe", "mix=real", "logger=none", "seed=0,1,2,3,4", "scale.image_size=48",
    "scale.classifier_size=48", "scale.phantom_per_class=150", "scale.phantom_test_fraction=0.25", "scale.real_limit=100",
    "scale.generate_per_class=20", "audit.pool.num_replicates=10",
    "trainer=cpu", "classify.steps=150",
)  # fmt: skip
ALONE = ("mix.real_per_class=10,20,40,80", "mix.synthetic_per_class=0", "base.gap=0")
WITH_SYNTHETIC = ("mix.real_per_class=20", "mix.synthetic_per_class=20")
SWEEPS = (
    ALONE,
    (*WITH_SYNTHETIC, "base.gap=0", "controls=[label_permuted]"),
    (*WITH_SYNTHETIC, "base.gap=1"),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oracle")

    def skinaug(command: str, *overrides: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        commands.skinaug(command, *overrides, cwd=folder, env=environment, check=True)

    for sweep in SWEEPS:  # one report is made of all
        skinaug("classify", "-m", *STUDY, *sweep, "~hydra.callbacks.report")
    runs = folder / "outputs" / "adhoc"
    skinaug(
        "report", f"report.runs={runs}", "report.baseline='real_per_class=20, synthetic_per_class=0, gap=0'"
    )
    return runs / "report"


def test_at_no_gap_a_synthetic_image_is_worth_a_photograph(report: Path):
    worth = pl.read_csv(report / "exchange.csv").filter(~pl.col("arm").str.contains("control"))
    none, far = (worth.filter(pl.col("arm").str.contains(f"gap={gap}")).row(0, named=True) for gap in (0, 1))
    assert none["reason"] == far["reason"] == ""
    assert none["low"] <= 1 <= none["high"], "the interval holds the truth"
    assert 0.3 < none["rate"] < 3
    assert none["low"] > 0, "that it is worth something is found"
    assert far["low"] <= 0, "of pictures without their class no worth is found"
    assert far["high"] < none["rate"]


def test_shuffled_labels_are_found_to_harm(report: Path):
    differences = pl.read_csv(report / "differences.csv").filter(pl.col("metric") == "top1")
    verdicts = dict(differences.select("arm", "verdict").iter_rows())
    shuffled = [arm for arm in verdicts if "label_permuted" in arm and "gap=0" in arm]
    assert [verdicts[arm] for arm in shuffled] == ["harms"]
    assert [
        verdicts[arm] for arm in verdicts if "synthetic_per_class=20, gap=0" in arm and arm not in shuffled
    ] == ["improves"]
