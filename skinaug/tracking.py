"""Run tracking: the only module that knows Weights & Biases. Each tracker is a context manager around one stage's build."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinaug.errors import InputError
from skinaug.store import Artifact, Recipe

if TYPE_CHECKING:
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
) -> Iterator[Logger]:
    """Metrics as `<folder>/<group>/<stage>-<key>/metrics.csv`."""
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(save_dir=folder, name=group, version=f"{recipe.stage}-{recipe.key}")
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
) -> Iterator[Logger]:
    """One W&B run a stage: `job_type` is the stage, `group` the experiment, the id comes from the artifact's key.

    The artifacts that it read and wrote are logged by reference, which draws the lineage dataset -> weights -> pool ->
    mix -> run. Offline by default, with no account: `wandb leet` reads the files, `wandb sync` sends them later. A build
    that fails shows as failed.

    Args:
        keys: what a dashboard groups and filters by, flat: mix, filters, backbone, ...
        project, entity: where the run belongs.
        folder: where the `wandb` folder lies.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    made = not Path(folder).exists()
    Path(folder).mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=project,
        entity=entity,
        mode="offline" if offline else "online",
        dir=folder,
        id=f"{recipe.stage}-{recipe.key}",
        name=f"{recipe.stage}-{recipe.key}",
        resume="allow" if not offline else None,
        group=group,
        job_type=recipe.stage,
        config=_config(recipe, keys),
        settings=wandb.Settings(silent=True, console="off"),
    )
    try:
        for read in inputs.values():
            _use(run, _reference(wandb, read))
        yield WandbLogger(experiment=run)
        run.log_artifact(_reference(wandb, artifact))
    except InputError:
        run.finish(exit_code=2)
        _forget(run, Path(folder), made)
        raise
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _config(recipe: Recipe, keys: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **keys,
        recipe.stage: dict(recipe.config),
        "inputs": dict(recipe.inputs),
        "version": recipe.version,
    }


def _reference(wandb: Any, artifact: Artifact) -> Any:
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


def _forget(run: Any, folder: Path, made: bool) -> None:
    """Remove the files of a run whose input was refused: bad input leaves nothing behind."""
    shutil.rmtree(run.settings.sync_dir, ignore_errors=True)
    if not any((folder / "wandb").glob("*run-*/")):
        shutil.rmtree(folder / "wandb", ignore_errors=True)
    if made and not any(folder.iterdir()):
        folder.rmdir()
