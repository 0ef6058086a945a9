"""The runs of a sweep and the study that they make, with its predictions."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from skinaug.errors import InputError, listing, plural
from skinaug.progress import shown
from skinaug.report.failures import refusal
from skinaug.report.run import FILE_NAME, GIVEN, Run
from skinaug.report.unfinished import unfinished
from skinaug.report.units import jobs_of, kind, together
from skinaug.store.artifact import RECORD

PROBABILITY = "p:"  # prefix of the columns of predictions.parquet that hold a class's probability
DEFAULT_BASELINE = "real_small"
EVALUATED = "evaluate."  # in front of a further test set's name: the step that judges a classifier on it
PART = "part"  # column of predictions that tells jobs apart which make one run
RUN_FILE = "run.json"  # of each finished job, in its folder


def read_runs(folder: Path, store: Path | None = None) -> list[Run]:
    """Every run.json below a folder, in the order of the jobs.

    Args:
        store: where artifacts are looked for that are not where a run was told that they lie, as in outputs and a store that came from
            elsewhere; None: SKINAUG_STORE, else `store`.

    Raises:
        InputError: none there, or files that are no runs (all are named).
    """
    files = sorted(Path(folder).rglob(RUN_FILE), key=natural)
    if not files:
        raise InputError(
            f"No run.json below {folder}: give the folder of a sweep that has finished at least one job."
            f"{refusal(unfinished(folder, ()))}"
        )
    runs, faults = [], []
    for file in files:
        try:
            runs.append(read_run(file, store))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            faults.append(f"{file}: {type(error).__name__}: {error}")
    if faults:
        raise InputError(
            f"{plural(len(faults), 'file')} cannot be read as runs:\n{listing(faults)}\nDelete what cannot be read, or run its jobs again."
        )
    return runs


def asked_runs(folder: Path, store: Path | None = None) -> list[Run]:
    """Every run below a folder with its arm's name, and after them the jobs that were asked for and left none (`unfinished`).

    store: as in `read_runs`.

    Raises:
        InputError: as `read_runs`, or what a sweep tells of its jobs cannot be read.
    """
    finished = read_runs(folder, store)
    named = name_arms([*distinct(finished), *unfinished(folder, finished)])
    there = {(run.arm, run.place) for run in named if run.failure is None}
    return [run for run in named if run.failure is None or (run.arm, run.place) not in there]


def distinct(runs: Sequence[Run]) -> list[Run]:
    """Without jobs that asked for a classifier that an earlier job had made: sweeping what an arm does not depend on, such as
    the generator of an arm of real images, makes no further arm."""
    found: dict[Any, Run] = {}
    for number, run in enumerate(runs):
        found.setdefault(run.artifacts.get("classify", number), run)
    return list(found.values())


def name_arms(runs: Sequence[Run]) -> list[Run]:
    """Name each run's arm by what tells the sweep's arms apart: its mix, and every other override that varies but those of chance.

    A sweep over mixes has arms such as `hybrid`, one over `mix.synthetic_ratio` such as `synthetic_ratio=1`.
    """
    keys = varying(runs)
    others = [key for key in keys if key != "mix"]
    named = []
    for run in runs:
        parts = [f"{key.rpartition('.')[2]}={run.settings[key]}" for key in others if key in run.settings]
        mixes = [] if parts and "mix" not in keys else [run.arm]
        named.append(replace(run, arm=", ".join([*mixes, *parts])))
    return named


def varying(runs: Sequence[Run]) -> list[str]:
    """Overrides that are not the same in all runs, but those of chance (`run.CHANCE`)."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [key for key in keys if len({str(run.settings.get(key)) for run in runs}) > 1]


def listed(arms: Sequence[str]) -> str:
    """Names of arms in a sentence, told apart where they have commas."""
    return ("; " if any("," in arm for arm in arms) else ", ").join(arms)


def placed(folder: Path, store: Path | None = None) -> Path:
    """Where an artifact of a run lies: where the run was told, or in a store that has been moved (`read_runs`)."""
    root = store or Path(os.environ.get("SKINAUG_STORE", "store"))
    moved = Path(os.path.abspath(root)) / folder.parent.name / folder.name
    return moved if not folder.exists() and (moved / RECORD).is_file() else folder


def read_run(file: Path, store: Path | None = None) -> Run:
    """The run of one run.json; its arguments and what it raises are those of `read_runs`."""
    content = json.loads(file.read_text(encoding="utf-8"))
    json.dumps(content, ensure_ascii=False).encode()  # half a letter ("\\ud800") could be written to no file
    return Run(
        experiment=str(content["experiment"]),
        arm=str(content["arm"]),
        seed=int(content["seed"]),
        overrides=dict(content["overrides"]),
        config=dict(content["config"]),
        artifacts={stage: placed(Path(folder), store) for stage, folder in content["artifacts"].items()},
        folder=file.parent,
    )


def natural(path: Path) -> list[Any]:
    """Sorts job 10 after job 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", str(path))]


@dataclass(frozen=True)
class Study:
    """The finished runs of a sweep, one an arm and seed, and the jobs that are not there.

    Attributes:
        runs: finished runs, in the order of the jobs.
        missing: (arm, seed) of jobs that failed, or that other arms have and this one lacks, and of runs that lack a fold.
        baseline: the arm that the others are compared with.
        groups: classes that count as one, by the group's name; none where each class stands for itself.
        failed: jobs that are known to have failed, or not to have ended, each with its `failure`; not among the missing.
    """

    runs: tuple[Run, ...]
    missing: tuple[tuple[str, int], ...]
    baseline: str
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failed: tuple[Run, ...] = ()

    @property
    def arms(self) -> list[str]:
        return list(self._by_arm)

    @property
    def experiment(self) -> str:
        return ", ".join(dict.fromkeys(run.experiment for run in self.runs))

    @property
    def jobs(self) -> list[Run]:
        """The jobs that the runs are made of."""
        return jobs_of(self.runs)

    @property
    def unit(self) -> str:
        """What the runs of an arm are independent repetitions of: seed, pool or split (`units`)."""
        return kind(self.jobs)

    def of(self, arm: str) -> list[Run]:
        """An arm's runs, by seed."""
        return self._by_arm.get(arm, [])

    @cached_property
    def _by_arm(self) -> dict[str, list[Run]]:
        """Each arm's runs by seed, arms in the order of the jobs."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.arm, []).append(run)
        return {arm: sorted(runs, key=lambda run: run.seed) for arm, runs in found.items()}

    def artifacts(self, stage: str) -> dict[Path, list[Run]]:
        """The distinct artifacts of a stage with the runs that used them."""
        found: dict[Path, list[Run]] = {}
        for run in self.jobs:
            if stage in run.artifacts:
                found.setdefault(run.artifacts[stage], []).append(run)
        return found

    @property
    def test_sets(self) -> list[str]:
        """Names of the further test sets that runs were judged on."""
        steps = dict.fromkeys(step for run in self.runs for step in run.artifacts)
        return [step.removeprefix(EVALUATED) for step in steps if step.startswith(EVALUATED)]

    def on(self, test_set: str) -> Study:
        """The same classifiers as judged on a further test set: predictions there stand in the place of those on the data's own."""
        judged = [
            run for run in self.runs if all(EVALUATED + test_set in part.artifacts for part in jobs_of([run]))
        ]
        runs = [
            replace(run, parts=tuple(_on(part, test_set) for part in run.parts)) if run.parts else run
            for run in judged
        ]
        runs = [_on(run, test_set) for run in runs]
        others = {(run.arm, run.seed) for run in self.runs} - {(run.arm, run.seed) for run in runs}
        return Study(tuple(runs), tuple(sorted({*self.missing, *others})), self.baseline)

    @cached_property
    def predictions(self) -> list[Predictions]:
        """Test predictions of each run; checked to be of the same classes."""
        return self._of("test")

    @cached_property
    def validation(self) -> list[Predictions]:
        """Validation predictions of each run."""
        return self._of("val")

    @cached_property
    def synthetic(self) -> list[Predictions]:
        """Predictions of each run for synthetic images that it was not trained on; without images where it was asked about
        none."""
        return self._of("synthetic")

    def _of(self, split: str) -> list[Predictions]:
        tables = [table.filter(pl.col("split") == split) for table in self._tables]
        return [in_groups(found, self.groups) for found in _align(self.runs, tables)]

    @cached_property
    def _tables(self) -> list[pl.DataFrame]:
        return [predictions_of(run) for run in shown(self.runs, "reading predictions")]

    @property
    def classes(self) -> list[str]:
        return self.predictions[0].classes

    @property
    def validated(self) -> bool:
        """Whether all runs have told what they make of validation images."""
        return all(len(predictions.images) for predictions in self.validation)


def _on(run: Run, test_set: str) -> Run:
    there = {"classify": run.artifacts[EVALUATED + test_set], "dataset": run.artifacts[f"test.{test_set}"]}
    return replace(run, artifacts={**run.artifacts, **there})


def predictions_of(run: Run) -> pl.DataFrame:
    """The predictions of a finished run, of all splits; of one of several jobs, with the column PART, the number of each."""
    if run.parts:
        tables = [
            predictions_of(part).with_columns(pl.lit(number).alias(PART))
            for number, part in enumerate(run.parts)
        ]
        return pl.concat(tables, how="diagonal_relaxed")
    folder = run.judged
    assert folder is not None, "a study has finished runs only"
    return (
        _given_tables(folder)[run.arm, run.seed]
        if GIVEN in run.artifacts
        else pl.read_parquet(folder / FILE_NAME)
    )


@lru_cache(maxsize=1)
def _given_tables(folder: Path) -> dict[tuple[Any, ...], pl.DataFrame]:
    """Predictions made elsewhere, by arm and seed, read once."""
    return pl.read_parquet(folder / FILE_NAME).partition_by("arm", "seed", as_dict=True, include_key=False)


def make_study(runs: Sequence[Run], baseline: str | None = None) -> Study:
    """Sort a sweep's runs into finished and missing ones.

    Raises:
        InputError: two finished runs of one arm and seed, no finished run, or a baseline that is no arm.
    """
    finished = [run for run in runs if run.finished]
    counts = Counter((run.arm, run.place) for run in finished)
    repeated = [f"{run.name}: {run.folder}" for run in finished if counts[run.arm, run.place] > 1]
    if repeated:
        raise InputError(
            f"Several runs have the same arm and seed:\n{listing(repeated)}\n"
            "Report one sweep at a time, or name the arms apart with arm=<name>."
        )
    if not finished:
        gone = [run.judged for run in runs if run.judged is not None and not run.judged.exists()]
        moved = (
            f"\n{gone[0]} is not there. Where the store was moved, name it: SKINAUG_STORE=<folder>."
            if gone
            else ""
        )
        raise InputError(
            f"None of the {len(runs)} runs has finished:\n{listing(run.name for run in runs)}{moved}"
        )
    units, lacking = together(finished)
    if not units:
        raise InputError(
            f"No run has finished all its folds:\n{listing(f'{arm}, seed {seed}' for arm, seed in sorted(lacking))}"
        )
    arms = list(dict.fromkeys(run.arm for run in units))
    check_baseline(baseline, arms, failed=[run.arm for run in runs if run.failure is not None])
    failed = tuple(run for run in runs if run.failure is not None)
    others = [run for run in runs if run.failure is None]
    asked = {(arm, place) for arm in {run.arm for run in others} for place in {run.place for run in others}}
    known = {*counts, *((run.arm, run.place) for run in failed)}
    missing = {(arm, place[0]) for arm, place in asked - known} | lacking
    default = DEFAULT_BASELINE if DEFAULT_BASELINE in arms else arms[0]
    return Study(tuple(units), tuple(sorted(missing)), baseline or default, failed=failed)


def check_baseline(baseline: str | None, arms: Sequence[str], failed: Sequence[str] = ()) -> None:
    """Raises InputError where the baseline that was asked for is no arm, or one of which no job ended well."""
    if baseline is not None and baseline not in arms:
        why = ": its jobs failed" if baseline in failed else ""
        raise InputError(
            f"The baseline {baseline!r} is not among the finished arms {', '.join(arms)}{why}: set report.baseline."
        )


@dataclass(frozen=True)
class Predictions:
    """A run's verdicts on the test images: labels int [N], probabilities float [N, C], image and group names [N]; of a run of several
    jobs, `parts` int [N], the number of the job whose classifier has judged each."""

    classes: list[str]
    images: list[str]
    groups: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    parts: np.ndarray | None = None


def in_groups(predictions: Predictions, groups: Mapping[str, Sequence[str]]) -> Predictions:
    """Predictions with groups in the place of classes: a group's probability is the sum of its classes'. As they are where there
    are no groups.

    Args:
        groups: by name, all classes, each once.
    """
    if not groups:
        return predictions
    names = list(groups)
    place = {label: position for position, own in enumerate(groups.values()) for label in own}
    of_class = np.array([place[label] for label in predictions.classes])
    probabilities = predictions.probabilities @ (of_class[:, None] == np.arange(len(names))).astype(float)
    return replace(
        predictions, classes=names, labels=of_class[predictions.labels], probabilities=probabilities
    )


def _align(runs: Sequence[Run], tables: Sequence[pl.DataFrame]) -> list[Predictions]:
    classes = [
        [name.removeprefix(PROBABILITY) for name in table.columns if name.startswith(PROBABILITY)]
        for table in tables
    ]
    odd = [
        f"{run.name}: {', '.join(names)}"
        for run, names in zip(runs, classes, strict=True)
        if names != classes[0]
    ]
    if odd:
        raise InputError(
            f"Runs of other classes than {', '.join(classes[0])} cannot be in one report:\n{listing(odd)}"
        )
    shared = _same_images(tables)
    return [
        _predictions(table, classes[0], "" if shared else f"{run.artifacts['dataset'].name}/")
        for run, table in zip(runs, tables, strict=True)
    ]


def _same_images(tables: Sequence[pl.DataFrame]) -> bool:
    """Whether an image_id means the same image in all runs (sweeps over data sets may use one id twice)."""
    rows = pl.concat([table.select("image_id", "group_id", "label") for table in tables]).unique()
    return not rows["image_id"].is_duplicated().any()


def _predictions(table: pl.DataFrame, classes: list[str], prefix: str) -> Predictions:
    index = {name: position for position, name in enumerate(classes)}
    return Predictions(
        classes=classes,
        images=[prefix + image for image in table["image_id"]],
        groups=[prefix + group for group in table["group_id"]],
        labels=np.array([index[label] for label in table["label"]]),
        probabilities=table.select(PROBABILITY + name for name in classes).to_numpy().astype(float),
        parts=table[PART].to_numpy() if PART in table.columns else None,
    )
