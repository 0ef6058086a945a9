"""Tracked runs: what is written, read back from the offline files; how failed, killed and repeated builds show."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import wandb
from commands import Command
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.models.tracking import track_csv, track_none, track_wandb
from skinaug.store.artifact import Artifact, Recipe
from skinaug.store.digest import sha256_file

RECIPE = Recipe("finetune", 1, {"steps": 3}, {"dataset": "d0"})
CLASSES = ("acne", "nevus")
IDS = [f"patient_{i}" for i in range(40)]


def artifact(folder: Path, stage: str, key: str, **config: Any) -> Artifact:
    path = folder / stage / key
    path.mkdir(parents=True, exist_ok=True)
    (path / "artifact.json").write_text(json.dumps({"seconds": 12.5, "config": config}))
    return Artifact(stage, key, path)


def write_images(made: Artifact, **columns: Any) -> None:
    """A manifest of the artifact with an image of each id."""
    picture = made.path / "one.png"
    Image.fromarray(np.full((300, 600, 3), 128, np.uint8)).save(picture)
    fixed = {"path": "one.png", "sha256": sha256_file(picture), "width": 600, "height": 300}
    labels = {"label": [CLASSES[i % 2] for i in range(len(IDS))], "image_id": IDS, "group_id": IDS}
    values = {
        k: v if isinstance(v, list | range) else [v] * len(IDS) for k, v in {**fixed, **columns}.items()
    }
    table = pl.DataFrame({**labels, **{k: list(v) for k, v in values.items()}})
    Manifest(table, made.path, CLASSES).write(made.path)


@pytest.fixture
def dataset(tmp_path: Path) -> Artifact:
    made = artifact(tmp_path, "dataset", "d0")
    write_images(made, split="test", source="real")
    return made


@pytest.fixture
def classifier(tmp_path: Path) -> Artifact:
    made = artifact(tmp_path, "classify", RECIPE.key)
    scores = {
        "top1": 0.75,
        "ece": 0.1,
        "auroc": float("nan"),
        "per_class": {c: {"recall": 0.5 + i / 4} for i, c in enumerate(CLASSES)},
    }
    metrics = {"train": {"real": 8, "seconds": 3.0}, "val": {**scores, "top1": 0.8}, "test": scores}
    (made.path / "metrics.json").write_text(json.dumps(metrics))
    rows = {
        "image_id": [*IDS, "validation"],
        "group_id": [*IDS, "validation"],
        "split": ["test"] * len(IDS) + ["val"],
        "label": [CLASSES[i % 2] for i in range(len(IDS))] + ["acne"],
        "prediction": ["acne"] * (len(IDS) + 1),
        "p:acne": [0.75] * (len(IDS) + 1),
        "p:nevus": [0.25] * (len(IDS) + 1),
    }
    pl.DataFrame(rows).write_parquet(made.path / "predictions.parquet")
    return made


def classify_recipe(**inputs: str) -> Recipe:
    return Recipe("classify", 1, {"steps": 30}, inputs)


def records(file: Path) -> Iterator[Record]:
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log: blocks of 32 KiB of pieces, each with a CRC,
    its length and whether it is whole (1), first (2), middle (3) or last (4)."""
    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""


def files(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*/*.wandb"))


def read(folder: Path) -> dict[str, Any]:
    """The only run below a folder: the run's record, config, history rows, summary, artifacts and exit codes."""
    wandb.teardown()  # the end of a run is written in the background
    (file,) = files(folder)
    run: dict[str, Any] = {"history": [], "summary": {}, "used": [], "logged": [], "exits": []}
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run["run"] = record.run
            run["config"] = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            run["history"].append(items)
        elif kind == "summary":
            for item in record.summary.update:
                run["summary"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "artifact":
            run["used" if record.artifact.use_after_commit else "logged"].append(record.artifact.name)
        elif kind == "exit":
            run["exits"].append(record.exit.exit_code)
    return run


def curve(run: dict[str, Any], name: str) -> list[tuple[int, float]]:
    return [(row["trainer/global_step"], row[name]) for row in run["history"] if name in row]


def table(folder: Path, name: str) -> pl.DataFrame:
    wandb.teardown()
    (path,) = (folder / "wandb").glob(f"offline-run-*/files/media/table/{name}_*.json")
    content = json.loads(path.read_text())
    return pl.DataFrame(content["data"], schema=content["columns"], orient="row", strict=False)


def pictures(folder: Path) -> list[tuple[int, int]]:
    """Width and height of every picture below the wandb folder, whatever its name."""
    sizes = []
    for path in (folder / "wandb").rglob("*"):
        with contextlib.suppress(OSError), Image.open(path) as picture:
            sizes.append(picture.size)
    return sizes


def track(made: Artifact, folder: Path, recipe: Recipe = RECIPE, inputs=None, keys=None, **options: Any):
    return track_wandb(
        made, recipe, inputs or {}, "study", keys or {}, project="p", folder=str(folder), **options
    )


def test_csv_and_none(tmp_path: Path):
    made = artifact(tmp_path, "finetune", RECIPE.key)
    with track_none(made, RECIPE, {}, "study", {}) as logger:
        assert logger is False
    with track_csv(made, RECIPE, {}, "study", {}, folder=str(tmp_path / "csv")) as logger:
        logger.log_metrics({"train/loss": 0.5}, step=1)
    with open(tmp_path / "csv" / "study" / f"finetune-{RECIPE.key}" / "metrics.csv") as file:
        assert next(csv.DictReader(file))["train/loss"] == "0.5"


def test_a_run_is_named_by_its_artifact_and_told_by_flat_keys(tmp_path: Path, dataset: Artifact):
    made = artifact(tmp_path, "finetune", RECIPE.key)
    keys = {"backbone": "resnet18", "mix.synthetic_ratio": 2.0}
    with track(made, tmp_path, inputs={"dataset": dataset}, keys=keys) as logger:
        logger.log_metrics({"train/loss": 0.25}, step=1)
    run = read(tmp_path)
    assert run["run"].run_id == run["run"].display_name == f"finetune-{RECIPE.key}"
    assert (run["run"].run_group, run["run"].job_type) == ("study", "finetune")
    assert run["config"]["backbone"] == "resnet18"
    assert run["config"]["mix_synthetic_ratio"] == 2.0, "W&B takes a dot in a name for a level"
    assert run["config"]["finetune"] == {"steps": 3}
    assert curve(run, "train/loss") == [(1, 0.25)]
    assert (run["used"], run["logged"]) == (["dataset-d0"], [f"finetune-{RECIPE.key}"])
    assert run["summary"]["cost/seconds"] == 12.5
    assert run["exits"] == [0]


def test_summary_is_the_test_scores_and_the_best_validation(tmp_path: Path, classifier: Artifact):
    with track(classifier, tmp_path, classify_recipe()) as logger:
        for step, (top1, ece) in enumerate([(0.5, 0.1), (0.8, 0.3), (0.7, 0.2)]):
            logger.log_metrics({"val/top1": top1, "val/ece": ece}, step=step)
    run = read(tmp_path)
    expected = {
        "test/top1": 0.75,
        "test/ece": 0.1,
        "test/recall/acne": 0.5,
        "test/recall/nevus": 0.75,
        "best/top1": 0.8,
        "train/real": 8,
        "train/seconds": 3.0,
    }
    assert {name: run["summary"].get(name) for name in expected} == expected
    assert "test/auroc" not in run["summary"], "no number, no summary"
    assert run["summary"]["val/top1"] == {"max": 0.8}
    assert run["summary"]["val/ece"] == {"min": 0.1}
    assert curve(run, "val/top1") == [(0, 0.5), (1, 0.8), (2, 0.7)]


def test_predictions_are_a_bounded_table_without_photographs(
    tmp_path: Path, classifier: Artifact, dataset: Artifact
):
    with track(classifier, tmp_path, classify_recipe(), {"dataset": dataset}, rows=15):
        pass
    shown = table(tmp_path, "predictions")
    assert shown.columns == ["image_id", "label", "prediction", "confidence", "correct"]
    assert shown.height == 15
    assert set(shown["image_id"]) <= set(IDS), "test images only"
    assert shown["correct"].to_list() == (shown["label"] == shown["prediction"]).to_list()
    assert set(shown["confidence"]) == {0.75}
    assert pictures(tmp_path) == []
    assert "WANDB_DATA_DIR" not in os.environ


def test_photographs_are_sent_small_where_asked(tmp_path: Path, classifier: Artifact, dataset: Artifact):
    options = {"rows": 10, "photographs": True}
    with track(classifier, tmp_path, classify_recipe(), {"dataset": dataset}, **options):
        pass
    shown = table(tmp_path, "predictions")
    assert set(shown["label"]) == set(CLASSES)
    assert "picture" in shown.columns
    assert pictures(tmp_path) == [(256, 128)] * shown.height, "beside the runs, where they wait to be sent"


@pytest.mark.parametrize(("mode", "photographs", "shown"), [("text", False, True), ("image", False, False), ("image", True, True)])  # fmt: skip
def test_a_pool_is_shown_with_prompts_and_scores(tmp_path: Path, mode: str, photographs: bool, shown: bool):
    pool, made = artifact(tmp_path, "generate", "g0", mode=mode), artifact(tmp_path, "curate", "c0")
    about = {"prompt": [f"a photo of {i}" for i in range(len(IDS))], "seed": range(len(IDS))}
    same = {
        "split": "train",
        "source": "synthetic",
        "prompt_set": "plain",
        "weights": "w",
        "scheduler": "DDIM",
    }
    sampling = {"guidance_scale": 2.0, "num_inference_steps": 20}
    write_images(pool, **about, **same, **sampling)
    manifest = Manifest.read(pool.path)
    manifest.with_table(manifest.table.head(30)).write(made.path)
    kept = [i < 30 for i in range(len(IDS))]
    scores = {
        "image_id": IDS,
        "label": "acne",
        "quality.sharpness": [i / 40 for i in range(40)],
        "quality.keep": kept,
    }
    pl.DataFrame(scores).write_parquet(made.path / "scores.parquet")
    recipe = Recipe("curate", 1, {}, {"generate": "g0"})
    with track(made, tmp_path, recipe, {"generate.second": pool}, images=8, photographs=photographs):
        pass
    told = table(tmp_path, "pool")
    counts = {key: len(group) for key, group in told.group_by("label", "kept")}
    assert counts == {(label, keep): 2 for label in CLASSES for keep in (True, False)}
    assert ("picture" in told.columns) is shown
    assert len(pictures(tmp_path)) == (8 if shown else 0)
    for row in told.iter_rows(named=True):
        index = IDS.index(row["image_id"])
        assert row["prompt"] == f"a photo of {index}"
        assert row["quality.sharpness"] == pytest.approx(index / 40)
        assert row["kept"] == kept[index]
    summary = read(tmp_path)["summary"]
    assert (summary["curate/generated"], summary["curate/kept"]) == (40, 30)


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("no memory"), 1), (KeyboardInterrupt(), 255)])
def test_a_failed_build_shows_as_failed_until_it_succeeds(tmp_path: Path, error: BaseException, code: int):
    made = artifact(tmp_path, "finetune", RECIPE.key)
    with pytest.raises(type(error)), track(made, tmp_path) as logger:  # noqa: PT012
        logger.log_metrics({"train/loss": 0.5, "epoch": 0}, step=10)
        raise error
    assert read(tmp_path)["exits"] == [code]
    with track(made, tmp_path) as logger:
        logger.log_metrics({"train/loss": 0.25, "epoch": 1}, step=20)
    run = read(tmp_path)
    assert run["exits"] == [0]
    assert curve(run, "train/loss") == [(10, 0.5), (20, 0.25)]


def test_a_refused_input_leaves_no_run(tmp_path: Path):
    made = artifact(tmp_path / "store", "finetune", RECIPE.key)
    with pytest.raises(InputError), track(made, tmp_path / "outputs"):
        raise InputError("no such class")
    assert not (tmp_path / "outputs").exists()


KILLED = """
import os, sys, time
sys.path.insert(0, {tests!r})
import numpy as np
from test_tracking import *
with track(artifact(Path({folder!r}), "finetune", RECIPE.key), Path({folder!r})) as logger:
    for step in (10, 20, 30):
        logger.log_metrics({{"train/loss": 1 / step, "epoch": 0}}, step=step)
    logger.log_metrics({{"val/top1": 0.5}}, step=30)
    logger.log_image("samples", [Image.fromarray(np.full((8, 8, 3), 99, np.uint8))], step=30)
    logger.log_metrics({{"test/top1": 0.1}})
    print("logged", flush=True)
    time.sleep(60)
"""


def test_a_killed_build_goes_on_as_one_run_with_one_curve(tmp_path: Path):
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    process = Command(code=code, piped=True, env=own)
    assert process.stdout.readline() == "logged\n"
    while not (files(tmp_path) and b"test/top1" in files(tmp_path)[0].read_bytes()):  # within about a second
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait() == -signal.SIGTERM
    assert read(tmp_path)["exits"] == [], "which W&B takes for failed"
    made = artifact(tmp_path, "finetune", RECIPE.key)
    with track(made, tmp_path) as logger:  # goes on from a checkpoint of step 20
        logger.log_metrics({"train/loss": 1 / 30, "epoch": 0}, step=30)
        logger.log_metrics({"val/top1": 0.5}, step=30)
        logger.log_metrics({"train/loss": 1 / 40, "epoch": 1}, step=40)
        logger.log_metrics({"test/top1": 0.9})
    run = read(tmp_path)
    assert curve(run, "train/loss") == [(step, 1 / step) for step in (10, 20, 30, 40)]
    assert curve(run, "val/top1") == [(30, 0.5)]
    assert [row["_step"] for row in run["history"]] == list(range(len(run["history"])))
    assert [row["test/top1"] for row in run["history"] if "test/top1" in row] == [0.9]
    assert run["exits"] == [0]
    (picture,) = (tmp_path / "wandb").glob("offline-run-*/files/media/images/*.png")
    assert np.asarray(Image.open(picture)).max() == 99


def test_a_repeated_build_is_the_same_run(tmp_path: Path):
    made = artifact(tmp_path, "finetune", RECIPE.key)
    for _ in range(3):
        with track(made, tmp_path) as logger:
            for step in (1, 2):
                logger.log_metrics({"train/loss": float("nan") if step == 2 else 0.5}, step=step)
    assert [step for step, _ in curve(read(tmp_path), "train/loss")] == [1, 2]


def test_tracking_costs_a_job_little(tmp_path: Path):
    made = artifact(tmp_path, "finetune", RECIPE.key)
    seconds = []
    for i in range(4):
        started = time.perf_counter()
        with track(made, tmp_path / str(i)):
            pass
        seconds.append(time.perf_counter() - started)
    assert min(seconds[1:]) < 0.3, "a sweep of hundreds of short jobs tracks each"
