"""The runs of a sweep and what their artifacts hold, read into plain tables."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from skinaug.errors import InputError, listing
from skinaug.manifest import FILE_NAME, Manifest

PROBABILITY = "p:"  # prefix of the columns of predictions.parquet that hold a class's probability
DEFAULT_BASELINE = "real_small"
RUN_FILE = "run.json"  # of each finished job, in its folder


@dataclass(frozen=True)
class Run:
    """One job of a sweep: an arm at one seed.

    Attributes:
        overrides: what the job changed, by config key.
        config: the job's whole config.
        artifacts: folder of each stage's artifact, by stage; a stage that the arm did not need is absent.
        folder: where run.json lies, if anywhere.
    """

    experiment: str
    arm: str
    seed: int
    overrides: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.arm}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether the run has got as far as test predictions."""
        return "classify" in self.artifacts and (self.artifacts["classify"] / "predictions.parquet").is_file()


def read_runs(folder: Path) -> list[Run]:
    """Every run.json below a folder, in the order of the jobs.

    Raises:
        InputError: none there, or files that are no runs (all are named).
    """
    files = sorted(Path(folder).rglob(RUN_FILE), key=_natural)
    if not files:
        raise InputError(
            f"No run.json below {folder}: give the folder of a sweep that has finished at least one job."
        )
    runs, faults = [], []
    for file in files:
        try:
            runs.append(_read_run(file))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            faults.append(f"{file}: {type(error).__name__}: {error}")
    if faults:
        raise InputError(
            f"{len(faults)} files are not readable as runs:\n{listing(faults)}\nDelete them or run their jobs again."
        )
    return runs


def distinct(runs: Sequence[Run]) -> list[Run]:
    """Without jobs that asked for a classifier that an earlier job had made: sweeping what an arm does not depend on, such as
    the generator of an arm of real images, makes no further arm."""
    found: dict[Any, Run] = {}
    for number, run in enumerate(runs):
        found.setdefault(run.artifacts.get("classify", number), run)
    return list(found.values())


def name_arms(runs: Sequence[Run]) -> list[Run]:
    """Name each run's arm by what tells the sweep's arms apart: its mix, and every other override that varies but the seed.

    A sweep over mixes has arms such as `hybrid`, one over `mix.synthetic_ratio` such as `synthetic_ratio=1`.
    """
    keys = varying(runs)
    others = [key for key in keys if key != "mix"]
    named = []
    for run in runs:
        parts = [f"{key.rpartition('.')[2]}={run.overrides[key]}" for key in others if key in run.overrides]
        mixes = [] if parts and "mix" not in keys else [run.arm]
        named.append(replace(run, arm=", ".join([*mixes, *parts])))
    return named


def _read_run(file: Path) -> Run:
    content = json.loads(file.read_text(encoding="utf-8"))
    json.dumps(content, ensure_ascii=False).encode()  # half a letter ("\\ud800") could be written to no file
    return Run(
        experiment=str(content["experiment"]),
        arm=str(content["arm"]),
        seed=int(content["seed"]),
        overrides=dict(content["overrides"]),
        config=dict(content["config"]),
        artifacts={stage: Path(folder) for stage, folder in content["artifacts"].items()},
        folder=file.parent,
    )


def _natural(path: Path) -> list[Any]:
    """Sorts job 10 after job 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", str(path))]


@dataclass(frozen=True)
class Study:
    """The finished runs of a sweep, one an arm and seed, and the jobs that are not there.

    Attributes:
        runs: finished runs, in the order of the jobs.
        missing: (arm, seed) of jobs that failed, or that other arms have and this one lacks.
        baseline: the arm that the others are compared with.
    """

    runs: tuple[Run, ...]
    missing: tuple[tuple[str, int], ...]
    baseline: str

    @property
    def arms(self) -> list[str]:
        return list(self._by_arm)

    @property
    def experiment(self) -> str:
        return ", ".join(dict.fromkeys(run.experiment for run in self.runs))

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
        for run in self.runs:
            if stage in run.artifacts:
                found.setdefault(run.artifacts[stage], []).append(run)
        return found

    @cached_property
    def predictions(self) -> list[Predictions]:
        """Test predictions of each run; checked to be of the same classes."""
        return _align(self.runs, [table.filter(pl.col("split") == "test") for table in self._tables])

    @cached_property
    def validation(self) -> list[Predictions]:
        """Validation predictions of each run."""
        return _align(self.runs, [table.filter(pl.col("split") == "val") for table in self._tables])

    @cached_property
    def synthetic(self) -> list[Predictions]:
        """Predictions of each run for synthetic images that it was not trained on; without images where it was asked about
        none."""
        return _align(self.runs, [table.filter(pl.col("split") == "synthetic") for table in self._tables])

    @cached_property
    def _tables(self) -> list[pl.DataFrame]:
        return [pl.read_parquet(run.artifacts["classify"] / "predictions.parquet") for run in self.runs]

    @property
    def classes(self) -> list[str]:
        return self.predictions[0].classes


def make_study(runs: Sequence[Run], baseline: str | None = None) -> Study:
    """Sort a sweep's runs into finished and missing ones.

    Raises:
        InputError: two finished runs of one arm and seed, no finished run, or a baseline that is no arm.
    """
    finished = tuple(run for run in runs if run.finished)
    counts = Counter((run.arm, run.seed) for run in finished)
    repeated = [f"{run.name}: {run.folder}" for run in finished if counts[run.arm, run.seed] > 1]
    if repeated:
        raise InputError(
            f"Several runs have the same arm and seed:\n{listing(repeated)}\n"
            "Report one sweep at a time, or name the arms apart with arm=<name>."
        )
    if not finished:
        raise InputError(f"None of the {len(runs)} runs has finished:\n{listing(run.name for run in runs)}")
    arms = list(dict.fromkeys(run.arm for run in finished))
    if baseline is not None and baseline not in arms:
        raise InputError(
            f"The baseline {baseline!r} is not among the finished arms {', '.join(arms)}: set report.baseline."
        )
    grid = {(arm, seed) for arm in {run.arm for run in runs} for seed in {run.seed for run in runs}}
    default = DEFAULT_BASELINE if DEFAULT_BASELINE in arms else arms[0]
    return Study(finished, tuple(sorted(grid - set(counts))), baseline or default)


@dataclass(frozen=True)
class Predictions:
    """A run's verdicts on the test images: labels int [N], probabilities float [N, C], image and group names [N]."""

    classes: list[str]
    images: list[str]
    groups: list[str]
    labels: np.ndarray
    probabilities: np.ndarray


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
    )


@lru_cache(maxsize=16)
def manifest(folder: Path) -> Manifest:
    """An artifact's manifest, read once."""
    return Manifest.read(folder)


def metrics(run: Run) -> dict[str, Any]:
    """A run's metrics.json: `val`, `test` and `train`."""
    return json.loads((run.artifacts["classify"] / "metrics.json").read_text())


def curves(run: Run) -> pl.DataFrame:
    """A run's curves.csv: `step` and what was logged at it."""
    return pl.read_csv(run.artifacts["classify"] / "curves.csv", infer_schema_length=None)


def mix_table(run: Run) -> pl.DataFrame:
    """Training images a class: `label`, `real` (distinct photographs), `repeated` (further copies of them), `synthetic`."""
    return _mix_table(run.artifacts["mix"])


@lru_cache(maxsize=4096)
def _mix_table(folder: Path) -> pl.DataFrame:
    rows = pl.read_parquet(folder / FILE_NAME, columns=["label", "source", "sha256"])
    real = rows.filter(pl.col("source") == "real").group_by("label").agg(pl.col("sha256").n_unique())
    distinct = dict(real.iter_rows())
    table = pl.read_csv(
        folder / "table.csv"
    )  # counts the copies that stand in for synthetic images as real ones
    counts = pl.Series("real", [distinct.get(label, 0) for label in table["label"]], dtype=pl.Int64)
    return table.select("label", counts, (pl.col("real") - counts).alias("repeated"), "synthetic")


def funnel(folder: Path) -> pl.DataFrame:
    """A curated pool's funnel.csv: label, prompt_set, subgroup, step, kept, reason, images; the first step is `generated`."""
    table = pl.read_csv(folder / "funnel.csv", schema_overrides={"subgroup": pl.String, "reason": pl.String})
    return table.with_columns(pl.col("prompt_set", "subgroup", "reason").cast(pl.String).fill_null(""))


def fidelity(folder: Path) -> pl.DataFrame:
    """An audit's fidelity.csv: set, label (or `all`), metric, value, low, high, images, real_images, warning."""
    return pl.read_csv(folder / "fidelity.csv", schema_overrides={"low": pl.Float64, "high": pl.Float64})


def memorisation(folder: Path) -> dict[str, Any]:
    """An audit's memorisation.json: what `copies_found` tells of the raw and the curated pool."""
    return json.loads((folder / "memorisation.json").read_text())


def attributes(folder: Path) -> pl.DataFrame:
    """An audit's attributes.csv: label, body_site, skin_type, tone, size, images, kept."""
    table = pl.read_csv(folder / "attributes.csv", schema_overrides={"skin_type": pl.String})
    return table.with_columns(pl.col("body_site", "skin_type").cast(pl.String).fill_null(""))


def certificate(run: Run) -> dict[str, Any] | None:
    """A run's leak certificate; None where it has none."""
    file = run.artifacts["classify"] / "certificate.json"
    return json.loads(file.read_text()) if file.is_file() else None


def record(folder: Path) -> dict[str, Any]:
    """An artifact's artifact.json."""
    return json.loads((folder / "artifact.json").read_text())


def swept_numbers(study: Study) -> dict[str, dict[str, float]]:
    """Overrides that give three or more arms different numbers: config key -> arm -> number."""
    keys = dict.fromkeys(key for run in study.runs for key in run.overrides if key != "seed")
    found = {}
    for key in keys:
        numbers = {arm: _number(study.of(arm)[0].overrides.get(key)) for arm in study.arms}
        known = {arm: value for arm, value in numbers.items() if value is not None}
        if len(set(known.values())) >= 3:
            found[key] = known
    return found


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def series(study: Study, key: str) -> dict[str, list[str]]:
    """Arms that differ in nothing but the seed and one swept key, by what the others that vary are set to."""
    keys = [name for name in varying(study.runs) if name != key]
    found: dict[str, list[str]] = {}
    for arm in study.arms:
        overrides = study.of(arm)[0].overrides
        told = ", ".join(setting(name, overrides[name]) for name in keys if name in overrides)
        found.setdefault(told, []).append(arm)
    return found


def varying(runs: Sequence[Run]) -> list[str]:
    """Overrides but the seed that are not the same in all runs."""
    keys = dict.fromkeys(key for run in runs for key in run.overrides if key != "seed")
    return [key for key in keys if len({str(run.overrides.get(key)) for run in runs}) > 1]


WORDS = {  # swept config key -> (heading, after a value)
    "mix.real_per_class": ("Real images / class", "real / class"),
    "mix.synthetic_per_class": ("Synthetic images / class", "synthetic / class"),
    "mix.synthetic_ratio": ("Synthetic images to a real one", "synthetic to a real one"),
    "generate.guidance_scale": ("Guidance scale", "guidance"),
}


def setting(key: str, value: Any) -> str:
    """A swept value in words."""
    return f"{value} {WORDS[key][1]}" if key in WORDS else f"{key.rpartition('.')[2]}={value}"


def listed(arms: Sequence[str]) -> str:
    """Names of arms in a sentence, told apart where they have commas."""
    return ("; " if any("," in arm for arm in arms) else ", ").join(arms)


def heading(key: str) -> str:
    """A swept key in words."""
    return WORDS[key][0] if key in WORDS else key


def settings(study: Study) -> list[tuple[str, str]]:
    """The values of the config that all runs share, as dotted names."""
    flat = [dict(_flatten("", run.config)) for run in study.runs]
    shared = set.intersection(*(set(values.items()) for values in flat))
    return [(name, value) for name, value in flat[0].items() if (name, value) in shared]


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flatten(f"{prefix}.{name}" if prefix else str(name), inner)
    else:
        yield prefix, str(value)
