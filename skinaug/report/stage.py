"""The stage `report`: tables, figures and intervals of many jobs. Its inputs are their classifiers, so it stands after the
pipeline, which makes one job's artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from skinaug.report.collect import EVALUATED, FILE_NAME, GIVEN, Run, placed
from skinaug.report.given import Given, tables_of
from skinaug.report.readers import FILE_NAME as READINGS_FILE
from skinaug.report.readers import STAGE as READINGS
from skinaug.report.units import name_jobs
from skinaug.stage import build, keyed, plain
from skinaug.store.artifact import Artifact, Recipe
from skinaug.store.digest import sha256_file
from skinaug.store.store import Store

if TYPE_CHECKING:
    import polars as pl

NAME = "report"
GIVEN_VERSION = 1  # as below, of predictions that were made elsewhere
VERSION = 7  # raised by hand when its code changes what it makes from the same config and inputs


def take_given(store: Store, place: Path, given: Given) -> list[Run]:
    """The runs of predictions that were made elsewhere, which the store keeps, so that their report can be made again.

    place: where they were read from.
    """
    inputs = {name: sha256_file(path) for name, path in tables_of(place).items()}
    recipe = Recipe(GIVEN, GIVEN_VERSION, {"name": place.name}, inputs)
    kept = store.get(recipe, lambda out: given.table.write_parquet(out / FILE_NAME), about={"name": GIVEN})
    names = given.table.select("arm", "seed").unique(maintain_order=True).iter_rows()
    return [Run(place.name, arm, seed, artifacts={GIVEN: kept.path}, folder=place) for arm, seed in names]


def take_readings(store: Store, readings: pl.DataFrame) -> Path:
    """The folder of what readers answered about a pool's pictures, which the store keeps, so that its report can be made again."""
    answers = sha256(readings.write_csv().encode()).hexdigest()
    recipe = Recipe(READINGS, 1, {}, {"answers": answers})
    return store.get(
        recipe, lambda out: readings.write_parquet(out / READINGS_FILE), about={"name": READINGS}
    ).path


def report_recipe(settings: DictConfig, runs: Sequence[Run]) -> Recipe:
    """What identifies the report of runs whose arms are named."""
    named = name_jobs(runs)
    inputs = {name: judged.name for name, run in named.items() if (judged := run.judged)}
    for name, run in named.items():  # as far as they were judged on further test sets
        inputs |= {
            f"{name}/{step}": folder.name
            for step, folder in run.artifacts.items()
            if step.startswith(EVALUATED)
        }
        if run.failure is not None:
            inputs[f"{name}/failure"] = sha256(run.failure.encode()).hexdigest()
        if READINGS in run.artifacts:
            inputs[f"{run.arm}/{run.seed}/{READINGS}"] = run.artifacts[READINGS].name
    return recipe_of(settings, inputs)


def recipe_of(settings: DictConfig, inputs: Mapping[str, str]) -> Recipe:
    """What identifies the report of classifiers, `<arm>/<seed>` -> key, of their predictions on further test sets,
    `<arm>/<seed>/evaluate.<test set>` -> key, of what readers answered, `<arm>/<seed>/readings` -> key, and of why jobs failed,
    `<arm>/<seed>/failure` -> digest."""
    return Recipe(NAME, VERSION, keyed(plain(settings)), inputs)


def make_report(
    store: Store,
    settings: DictConfig,
    runs: Sequence[Run],
    track: Callable[..., AbstractContextManager[Any]] | None = None,
) -> Artifact:
    """The report of runs whose arms are named: found, or written.

    track: a tracker of `models.tracking`, whose run then has the verdicts.
    """
    recipe = report_recipe(settings, runs)
    about: dict[str, Any] = {
        "name": NAME,
        "job": {"report": plain(settings)},
        "runs": [asdict(run) for run in runs],
    }
    with ExitStack() as tracking:

        def build_tracked(out: Path) -> None:
            if track is not None:
                tracking.enter_context(track(store.artifact(recipe), recipe, {}, runs[0].experiment, {}))
            build(settings)(runs=runs, out=out)

        return store.get(
            recipe,
            build_tracked,
            about=json.loads(json.dumps(about, default=str)),  # folders as text
        )


def recorded_runs(artifact: Artifact) -> list[Run]:
    """The runs that a report is of, as its record tells."""
    runs, store = [], artifact.path.parent.parent
    for told in artifact.record["runs"]:
        artifacts = {stage: placed(Path(folder), store) for stage, folder in told["artifacts"].items()}
        runs.append(Run(**{**told, "artifacts": artifacts, "folder": Path(told["folder"])}))
    return runs
