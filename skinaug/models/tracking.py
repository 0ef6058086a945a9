"""Run tracking: the only module that writes to Weights & Biases. Each tracker is a context manager around one stage's
build, and tells what the finished artifact holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinaug.errors import InputError
from skinaug.models.shown import predictions, samples, summary
from skinaug.store.artifact import Artifact, Recipe

if TYPE_CHECKING:
    import polars as pl
    from lightning.pytorch.loggers import Logger

TYPES = {
    "dataset": "dataset",
    "finetune": "weights",
    "generate": "pool",
    "curate": "pool",
    "mix": "mix",
    "classify": "run",
}


@contextmanager
def track_none(
    artifact: Artifact, recipe: Recipe, inputs: Mapping[str, Artifact], group: str, keys: Mapping[str, Any]
) -> Iterator[bool]:
    """No tracking: `False`, which Lightning takes for no logger."""
    yield False


@contextmanager
def track_csv(
    artifact: Artifact,
    recipe: Recipe,
    inputs: Mapping[str, Artifact],
    group: str,
    keys: Mapping[str, Any],
    *,
    folder: str,
) -> Iterator[Logger | bool]:
    """Metrics as `<folder>/<group>/<stage>-<key>/metrics.csv`, but of reports, whose tables are CSV files already."""
    if recipe.stage == REPORT:
        yield False
        return
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(save_dir=folder, name=group, version=_name(recipe))
    logger.log_hyperparams(_config(recipe, keys))
    yield logger
    logger.finalize("success")


@contextmanager
def track_wandb(
    artifact: Artifact,
    recipe: Recipe,
    inputs: Mapping[str, Artifact],
    group: str,
    keys: Mapping[str, Any],
    *,
    project: str,
    folder: str,
    offline: bool = True,
    entity: str | None = None,
    rows: int = 500,
    images: int = 24,
    photographs: bool = False,
) -> Iterator[Logger | bool]:
    """One W&B run a stage: `job_type` is the stage, `group` the experiment, the id comes from the artifact's key.

    The artifacts that it read and wrote are logged by reference, which draws the lineage dataset -> weights -> pool ->
    mix -> run. The finished artifact's scores become the run's summary (`summary`), its predictions or samples a table.
    Offline by default, with no account: `wandb leet` reads the files, `wandb sync` sends them later.

    A build that fails, or is interrupted or killed, shows as failed. Built again, it goes on as the same run: offline,
    the curve that it had is written into the new try's file, which then stands alone, since of two files of one id
    `wandb sync` lets the second overwrite the first; steps that the run already has are not logged twice.

    Args:
        keys: what a dashboard groups and filters by, flat: mix, filters, backbone, ...
        project, entity: where the run belongs.
        folder: where the `wandb` folder lies.
        rows: of a table of predictions, at most.
        images: synthetic pictures of a pool that are shown, at most.
        photographs: whether real photographs, and pictures made from one, may be sent as pictures.
    """
    made = not Path(folder).exists()
    Path(folder).mkdir(parents=True, exist_ok=True)
    earlier = _earlier(Path(folder), _name(recipe)) if offline else []
    with _data_beside_runs(Path(folder)):
        run = _start(recipe, group, keys, project=project, entity=entity, folder=folder, offline=offline)
        with _ended(run, Path(folder), made, earlier):
            _define_metrics(run)
            known = _replay(run, earlier)
            for read in inputs.values():
                _use(run, _reference(read))
            yield False if recipe.stage == REPORT else _logger(run, known)  # Lightning's loads torch
            run.summary.update(summary(artifact))
            if recipe.stage == "classify":
                run.log({"predictions": _table(predictions(artifact, inputs, rows, photographs))})
            elif recipe.stage in ("generate", "curate"):
                run.log({"pool": _table(samples(artifact, inputs, images, photographs))})
            run.log_artifact(_reference(artifact))


# What takes W&B most of its start is not needed: packages, revision and device are in every artifact.json.
SETTINGS: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "x_transaction_log_flush_interval": 1.0,  # seconds; a kill loses what came after, of a short job all at W&B's 15
}
STEP = "trainer/global_step"  # Lightning's name of the optimizer step
LESS_IS_BETTER = ("loss", "ece", "brier", "aurc")
REPORT = "report"  # the stage of which there are no curves
PICTURE_SIZE = 256  # pixels of the long side of a picture in a table


def _name(recipe: Recipe) -> str:
    return f"{recipe.stage}-{recipe.key}"


def _config(recipe: Recipe, keys: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **keys,
        recipe.stage: dict(recipe.config),
        "inputs": dict(recipe.inputs),
        "version": recipe.version,
    }


def _start(
    recipe: Recipe,
    group: str,
    keys: Mapping[str, Any],
    *,
    project: str,
    entity: str | None,
    folder: str,
    offline: bool,
) -> Any:
    """The W&B run of a stage's build; online, the same one again where there was one."""
    import wandb

    return wandb.init(
        project=project,
        entity=entity,
        mode="offline" if offline else "online",
        dir=folder,
        id=_name(recipe),
        name=_name(recipe),
        resume="allow" if not offline else None,
        group=group,
        job_type=recipe.stage,
        config=_config(recipe, {key.replace(".", "_"): value for key, value in keys.items()}),
        settings=wandb.Settings(**SETTINGS),
    )


@contextmanager
def _ended(run: Any, folder: Path, made: bool, earlier: list[Path]) -> Iterator[None]:
    """End a run as the build inside ends. made: whether the folder is there for its sake; earlier: its earlier tries."""
    try:
        yield
    except InputError:
        run.finish(exit_code=2)
        _forget(run, folder, made)
        raise
    except BaseException as error:
        with suppress(Exception):  # a signal to all processes of a job ends W&B's own before ours
            killed = isinstance(error, KeyboardInterrupt)
            run.finish(exit_code=255 if killed else 1)  # W&B's "killed"
        _remove(earlier)
        raise
    run.finish()
    _remove(earlier)


def _define_metrics(run: Any) -> None:
    """Draw every curve against the optimizer step; the summary of a validation score is its best value."""
    run.define_metric(STEP, hidden=True)
    for name in LESS_IS_BETTER:
        run.define_metric(f"val/{name}", step_metric=STEP, step_sync=True, summary="min")
    run.define_metric("val/*", step_metric=STEP, step_sync=True, summary="max")
    run.define_metric("train/*", step_metric=STEP, step_sync=True)


Row = tuple[int, frozenset[str]]  # an optimizer step and what was logged of it


def _earlier(folder: Path, name: str) -> list[Path]:
    """The offline folders of earlier tries of a run, the oldest first."""
    return sorted(file.parent for file in (folder / "wandb").glob(f"offline-run-*/run-{name}.wandb"))


def _replay(run: Any, earlier: list[Path]) -> Callable[[int, frozenset[str]], bool]:
    """Write the curves of earlier tries into a run. Returns which rows the run has: of a step, with these names.

    A run that goes on online knows its last step only.
    """
    if not run.offline:
        last = run.summary.get(STEP, -1) if run.resumed else -1
        return lambda step, names: step <= last
    rows: dict[Row, dict[str, Any]] = {}
    for folder in earlier:
        for row in _history(folder):
            if STEP in row:  # the others are logged at the end of a build, and come again
                names = frozenset(name for name in row if name != STEP and name[0] != "_")
                rows[int(row[STEP]), names] = row
    for _, row in sorted(rows.items(), key=lambda item: item[0][0]):
        run.log(row)
    return lambda step, names: (step, names) in rows


def _history(folder: Path) -> Iterator[dict[str, Any]]:
    """What was logged in an offline folder, row by row, with pictures as files; of a killed run, what had been written."""
    import wandb

    (file,) = folder.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
        record = json.loads(line)
        if record["type"] == "history":
            row = record["history"]["item"]
            media = {key.removesuffix("._type") for key in row if key.endswith("._type")}
            values = {key: value for key, value in row.items() if key.rpartition(".")[0] not in media}
            for key in media:  # W&B's own tables of one run are not there before its end
                files = row.get(f"{key}.filenames", [])
                captions = row.get(f"{key}.captions") or [None] * len(files)
                values[key] = [
                    wandb.Image(str(folder / "files" / file), caption=caption)
                    for file, caption in zip(files, captions, strict=True)
                ]
            yield {key: value for key, value in values.items() if key not in ("_step", "_runtime")}


def _logger(run: Any, known: Callable[[int, frozenset[str]], bool]) -> Logger:
    """A Lightning logger that leaves out what the run has."""
    from lightning.pytorch.loggers import WandbLogger
    from lightning.pytorch.utilities import rank_zero_only

    class Continued(WandbLogger):
        @rank_zero_only
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            if step is None or not known(step, frozenset(metrics)):
                super().log_metrics(metrics, step)

    return Continued(experiment=run)


def _table(frame: pl.DataFrame) -> Any:
    """A W&B table; the files named in the column `picture` become small JPEG pictures."""
    import wandb

    from skinaug.images import open_image

    rows = []
    for row in frame.iter_rows(named=True):
        if row.get("picture") is not None:
            picture = open_image(row["picture"])
            picture.thumbnail((PICTURE_SIZE, PICTURE_SIZE))
            row["picture"] = wandb.Image(picture, file_type="jpg")
        rows.append(list(row.values()))
    return wandb.Table(columns=frame.columns, data=rows, allow_mixed_types=True)


@contextmanager
def _data_beside_runs(folder: Path) -> Iterator[None]:
    """Tables wait for `wandb sync` beside their runs, and not in the user's home; WANDB_DATA_DIR says otherwise."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def _reference(artifact: Artifact) -> Any:
    import wandb

    kind = TYPES.get(artifact.stage, artifact.stage)
    reference = wandb.Artifact(f"{artifact.stage}-{artifact.key}", type=kind, metadata={"key": artifact.key})
    reference.add_reference(artifact.path.as_uri(), checksum=False)
    return reference


def _use(run: Any, artifact: Any) -> None:
    """Record an input. W&B's `use_artifact` refuses to work offline, although the record that it would send can wait in
    the run's file like any other; so offline that record is written by the call beneath it."""
    if run.offline:
        run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
    else:
        run.use_artifact(artifact)


def _remove(folders: list[Path]) -> None:
    """Remove earlier tries of a run once a later one holds all that they had: its end is written in the background."""
    import wandb

    if folders:
        wandb.teardown()  # waits for that
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _forget(run: Any, folder: Path, made: bool) -> None:
    """Remove the files of a run whose input was refused: bad input leaves nothing behind."""
    shutil.rmtree(run.settings.sync_dir, ignore_errors=True)
    if not any((folder / "wandb").glob("*run-*/")):
        shutil.rmtree(folder / "wandb", ignore_errors=True)
    if made and not any(folder.iterdir()):
        folder.rmdir()
