"""Tracked runs: what is written, and how a failed build shows."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from skinaug.errors import InputError
from skinaug.store import Artifact, Recipe
from skinaug.tracking import track_csv, track_none, track_wandb

RECIPE = Recipe("finetune", 1, {"steps": 3}, {"dataset": "d0"})


def artifact(folder: Path, stage: str, key: str) -> Artifact:
    path = folder / stage / key
    path.mkdir(parents=True)
    return Artifact(stage, key, path)


def inspect(folder: Path) -> str:
    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_csv_and_none(tmp_path: Path):
    made = artifact(tmp_path, "finetune", RECIPE.key)
    with track_none(made, RECIPE, {}, "study", {}) as logger:
        assert logger is False
    with track_csv(made, RECIPE, {}, "study", {}, folder=str(tmp_path / "csv")) as logger:
        logger.log_metrics({"train/loss": 0.5}, step=1)
    with open(tmp_path / "csv" / "study" / f"finetune-{RECIPE.key}" / "metrics.csv") as file:
        assert next(csv.DictReader(file))["train/loss"] == "0.5"


def test_wandb_writes_offline_metrics_and_config(tmp_path: Path):
    made, read = artifact(tmp_path, "finetune", RECIPE.key), artifact(tmp_path, "dataset", "d0")
    with track_wandb(
        made, RECIPE, {"dataset": read}, "study", {"mix": "hybrid"}, project="p", folder=str(tmp_path)
    ) as logger:
        logger.log_metrics({"train/loss": 0.25}, step=1)
    shown = inspect(tmp_path)
    assert "finished (exit code 0)" in shown
    assert "0.25" in shown
    assert "steps" in shown
    assert "hybrid" in shown, "a dashboard can group by the flat keys"


def test_a_failed_build_shows_as_failed(tmp_path: Path):
    made = artifact(tmp_path, "finetune", RECIPE.key)
    with (
        pytest.raises(RuntimeError, match="no memory"),
        track_wandb(made, RECIPE, {}, "study", {}, project="p", folder=str(tmp_path)),
    ):
        raise RuntimeError("no memory")
    assert "exit code 1" in inspect(tmp_path)


def test_a_refused_input_leaves_no_run(tmp_path: Path):
    made = artifact(tmp_path / "store", "finetune", RECIPE.key)
    with (
        pytest.raises(InputError),
        track_wandb(made, RECIPE, {}, "study", {}, project="p", folder=str(tmp_path / "outputs")),
    ):
        raise InputError("no such class")
    assert not (tmp_path / "outputs").exists()
