"""`skinaug rerun <artifact> ...`: build artifacts anew from what their artifact.json tells, and compare file by file.

What is in the store is only read. A record's configuration names the functions to call, like any Hydra configuration: it is
code, so rerun artifacts of people whom you trust.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skinaug.cli.audit import FOLDERS
from skinaug.errors import InputError, listing
from skinaug.pipeline import make, recipe_with, stage_of
from skinaug.report.collect import GIVEN, placed
from skinaug.report.stage import recipe_of, recorded_runs
from skinaug.sources.walk import leave_out
from skinaug.stage import Step, build
from skinaug.store.artifact import KEY, RECORD, Artifact, Recipe, changes
from skinaug.store.compare_files import Verdict, compare_files, compare_json, flatten
from skinaug.store.provenance import provenance
from skinaug.store.store import Store

OUTSIDE = (GIVEN, FOLDERS)
NEEDED = ("name", "job")  # of a record, to build its artifact again
PROVENANCE = (
    "packages",
    "git_revision",
    "device",
    "host",
    "python",
)  # told where they are others, and no verdict
LEFT_OUT = (
    "schema_version",
    "created",
    "seconds",
    "bytes",
    "threads",
    *PROVENANCE,
    "job",
    "runs",
)  # of a record, in the comparison
NO_LOGGER = {"_target_": "skinaug.models.tracking.track_none", "_partial_": True}

console = Console()


def main(arguments: list[str]) -> int:
    """Rerun artifacts and print what differs; returns the exit status: 0 all equal, 1 one differs.

    Raises:
        InputError: one of them cannot be rerun (`plan_rerun`); then none is.
    """
    parser = argparse.ArgumentParser(prog="skinaug rerun", description=__doc__)
    default = os.environ.get("SKINAUG_STORE", "store")
    parser.add_argument("artifact", nargs="+", help="<stage>/<key>, a key, or the folder of an artifact")
    parser.add_argument(
        "--store", type=Path, default=Path(default), help=f"the store's folder (default: {default})"
    )
    options = parser.parse_args(arguments)
    asked = dict.fromkeys(Store(options.store).find(name) for name in options.artifact)
    differing = []
    for plan in [plan_rerun(artifact) for artifact in asked]:
        verdicts = rerun(plan)
        print_rerun(plan.artifact, verdicts)
        if not all(verdict.equal for verdict in verdicts):
            differing.append(f"{plan.artifact.stage}/{plan.artifact.key}")
    told = f"{len(differing)} differ: {', '.join(differing)}" if differing else "all are equal"
    console.print(f"{len(asked)} rerun, {told}", highlight=False, soft_wrap=True)
    return 1 if differing else 0


@dataclass(frozen=True)
class Rerun:
    """An artifact, what it is made of, the job that made it, its name there (`finetune`, `score.ensemble`, ...), and the
    artifacts that it was built from."""

    artifact: Artifact
    recipe: Recipe
    cfg: DictConfig
    name: str
    made: Mapping[str, Artifact]


def plan_rerun(artifact: Artifact) -> Rerun:
    """How to build an artifact anew.

    Raises:
        InputError: an input is gone, the record does not tell the job, or today's code would make another artifact of it.
    """
    record = artifact.record
    if record.get("name") in OUTSIDE:
        raise InputError(
            f"{artifact.stage}/{artifact.key} was made of files outside the store, and its record does not hold them: run the command "
            "that made it again."
        )
    lacking = [name for name in NEEDED if name not in record]
    if lacking:
        raise InputError(
            f"The record of {artifact.stage}/{artifact.key} lacks {' and '.join(lacking)}: it was written before reruns were "
            "possible. Delete the artifact and run the command that made it again."
        )
    _refuse_without_inputs(artifact)
    cfg, name, made = OmegaConf.create(record["job"]), record["name"], {}
    if name == "report":
        recipe = recipe_of(cfg.report, record["inputs"])
    else:
        step = step_of(cfg, artifact, name)
        # Its own recipe as of today, but of the inputs that it had: their stages' code may have changed since, and where
        # photographs were read from need not be there.
        kept = {need: record["inputs"].get(need, "(absent)") for need in step.inputs}
        recipe = recipe_with(step, kept)
        made = Store(artifact.path.parent.parent).lineage(record["inputs"])
    if recipe.key != artifact.path.name:
        raise InputError(
            f"Today's code makes another artifact than {artifact.stage}/{artifact.key} of the job that its record tells:\n"
            f"{listing([*changes(artifact.recipe.flat(), recipe.flat()), *provenance_changes(record)])}\n"
            "To rerun it, check out the revision and install the packages that made it, and put its inputs back."
        )
    return Rerun(artifact, recipe, cfg, name, made)


def rerun(plan: Rerun) -> list[Verdict]:
    """Build an artifact again, in a store of its own beside it, and compare: one verdict a file.

    That store has links to the other artifacts, which are only read, and none of the caches: what was computed of pictures
    is computed again. As many threads compute as did before.
    """
    beside = Path(os.path.abspath(plan.artifact.path.parent))
    # The name tells the store that this is no artifact, and `skinaug store gc` that it may go after a kill.
    with TemporaryDirectory(dir=beside, prefix="rerun-", suffix=".partial") as folder:
        for other in Store(beside.parent).artifacts():
            if other.path != beside / plan.artifact.path.name:
                link = Path(folder) / other.stage / other.key
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(other.path, target_is_directory=True)
        store, cfg = Store(Path(folder)), plan.cfg.copy()
        with computing_with(plan.artifact.record.get("threads", {})):
            if plan.name == "report":
                runs = recorded_runs(plan.artifact)
                again = store.get(
                    plan.recipe, lambda out: build(cfg.report)(runs=runs, out=out), about={"name": "report"}
                )
            else:
                cfg.store, cfg.logger = folder, NO_LOGGER
                again = make(cfg, store, step_of(cfg, plan.artifact, plan.name), plan.recipe, plan.made)
        then, now = (
            {name: value for name, value in made.record.items() if name not in LEFT_OUT}
            for made in (plan.artifact, again)
        )
        record = compare_json(RECORD, then, now, left_out=())
        record = replace(record, about=record.about or f"left out: {', '.join(LEFT_OUT)}")
        return [record, *compare_files(plan.artifact.path, again.path, but=(RECORD,))]


def step_of(cfg: DictConfig, artifact: Artifact, name: str) -> Step:
    """The step that made an artifact, by the job that its record tells.

    Raises:
        InputError: it reads a folder, which is not here or is not as it was named there.
    """
    leave_out(cfg.store, cfg.output)  # from the folder of photographs, as `pipeline.steps` does
    try:
        return next(step for step in stage_of(name).steps(cfg) if step.name == name)
    except InputError as error:
        root = artifact.record["inputs"].get("root", "").rpartition(" ")[0]
        if not root:
            raise
        raise InputError(
            f"{artifact.stage}/{artifact.key} was read from the folder {root}, by a command in another folder or on another machine: "
            f"rerun it there. What was made of it can be rerun here.\n{error}"
        ) from error


@contextmanager
def computing_with(threads: Mapping[str, int]) -> Iterator[None]:
    """Let torch and BLAS compute with so many threads (`store.threads`), where that is known."""
    import scipy.linalg  # noqa: F401  brings a BLAS of its own, which must be loaded to be told
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads.get("torch", before))
    try:
        with threadpool_limits(threads.get("blas"), user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def provenance_changes(record: Mapping[str, Any]) -> list[str]:
    """What of packages, revision, device, host and Python is not as it was when the record was written."""
    then, now = ({name: told.get(name) for name in PROVENANCE} for told in (record, provenance()))
    return changes(dict(flatten("", then)), dict(flatten("", now)))


def _refuse_without_inputs(artifact: Artifact) -> None:
    """Refuse where something that the artifact was built from is no longer in its store."""
    root, record = artifact.path.parent.parent, artifact.record
    if record["name"] == "report":
        folders = [
            placed(Path(folder), root) for run in record["runs"] for folder in run["artifacts"].values()
        ]
    else:
        needs = {name: key for name, key in record["inputs"].items() if KEY.fullmatch(key)}
        folders = [root / name.partition(".")[0] / key for name, key in needs.items()]
    gone = dict.fromkeys(
        f"{folder.parent.name}/{folder.name}" for folder in folders if not (folder / RECORD).is_file()
    )
    if gone:
        raise InputError(
            f"{artifact.stage}/{artifact.key} was built from artifacts that are no longer in the store {root}:\n"
            f"{listing(gone)}\nRun the command that made them again."
        )


def print_rerun(artifact: Artifact, verdicts: list[Verdict]) -> None:
    """Print the comparison as a table, and what is not as it was when the artifact was built."""
    table = Table("file", "", "", title=f"{artifact.stage}/{artifact.key}, built again")
    for verdict in verdicts:
        told = "[green]equal[/green]" if verdict.equal else "[red]differs[/red]"
        table.add_row(escape(verdict.file), told, escape(verdict.about))
    console.print(table)
    for change in provenance_changes(artifact.record):
        console.print(f"not as recorded: {change}", highlight=False, soft_wrap=True, markup=False)
