"""The sweeps of a folder of outputs, as the local dashboard shows them: their runs, the scores and intervals of their reports, and how
they stand. Scores are read from the reports; none is computed here.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from skinaug.errors import InputError, plural
from skinaug.launch.standing import Standing, read_standing
from skinaug.report.collect import RUN_FILE, distinct, name_arms, natural, read_run
from skinaug.report.run import FOLD, Run
from skinaug.report.swept import flatten
from skinaug.report.unfinished import STANDING
from skinaug.report.units import together

REPORT, PAGE = "report", "report.html"
LOW, HIGH = "_low", "_high"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error)
Row = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A sweep that has begun, or predictions that were reported on.

    Attributes:
        name: its folder below that of outputs, with slashes.
        rows: its runs; `run`, `arm`, `seed` and `jobs`, the report's columns on it, `config`, flat, and which values of that were `named`
            on the command line.
        jobs: run.json files that were read.
        faults: of each file that cannot be read: which, and why.
        arms: the rows of the report's arms.csv; none without a report.
        standing: None where the sweep has left no word of it.
        has_page: whether there is a report.html.
    """

    name: str
    rows: Sequence[Row]
    jobs: int
    faults: Sequence[str]
    arms: Sequence[Row]
    standing: Standing | None
    has_page: bool

    def words(self) -> str:
        """How it stands."""
        if self.standing:
            return self.standing.words()
        return f"{plural(self.jobs, 'job')} done" if self.jobs else "a report on given predictions"


def read_sweeps(root: Path) -> list[Sweep]:
    """The sweeps below a folder, the latest name first.

    Raises:
        InputError: there is no such folder, or no sweep in it.
    """
    if not root.is_dir():
        raise InputError(
            f"There is no folder of outputs at {root}: run a sweep first (skinaug classify -m ...), or name the folder."
        )
    folders = dict.fromkeys(_sweep_folders(root))
    if not folders:
        raise InputError(
            f"No sweep lies below {root}: run one first (skinaug classify -m ...), or name another folder of outputs."
        )
    return [
        _read_sweep(root, folder) for folder in sorted(folders, key=lambda place: place.name, reverse=True)
    ]


def _sweep_folders(root: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != "wandb" and not os.path.islink(f"{place}/{name}")]
        here = Path(place)
        if STANDING in files:
            yield here
        if RUN_FILE in files:
            yield here.parent if here != root else here
        if here.name == REPORT and "arms.csv" in files:
            yield here.parent


def _read_sweep(root: Path, folder: Path) -> Sweep:
    runs, faults, standing = [], [], None
    for file in sorted(
        {*folder.glob(f"*/{RUN_FILE}"), *folder.glob(RUN_FILE)}, key=lambda file: natural(file)
    ):
        try:
            state = file.stat()
            runs.append(_run(file, state.st_mtime_ns, state.st_size))
        except UNREADABLE as error:
            faults.append(_fault(root, file, error))
    try:
        standing = read_standing(folder)
    except UNREADABLE as error:
        faults.append(_fault(root, folder / STANDING, error))
    tables = {}
    for name in ("runs.csv", "arms.csv"):
        try:
            tables[name] = _table(folder / REPORT / name)
        except UNREADABLE as error:
            tables[name] = []
            faults.append(_fault(root, folder / REPORT / name, error))
    return Sweep(
        folder.relative_to(root).as_posix(),
        _rows(runs, tables["runs.csv"]),
        len(runs),
        faults,
        tables["arms.csv"],
        standing,
        page_of(root, folder.relative_to(root).as_posix()) is not None,
    )


@lru_cache(maxsize=20_000)
def _run(file: Path, changed: int, size: int) -> Run:
    return read_run(file)


@lru_cache(maxsize=20_000)
def _settings(file: Path, changed: int, size: int) -> Mapping[str, str]:
    return dict(flatten("", _run(file, changed, size).config))


def _fault(root: Path, file: Path, error: Exception) -> str:
    return f"{file.relative_to(root)}: {type(error).__name__}: {error}"


def _table(file: Path) -> list[Row]:
    """A CSV of a report: numbers as numbers, empty cells as None; nothing where there is none."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return [{name: value_of(text) for name, text in row.items()} for row in csv.DictReader(lines)]
    except FileNotFoundError:
        return []


def value_of(text: Any) -> Any:
    """A number where the text is a finite one."""
    try:
        number = float(text)
    except (TypeError, ValueError):
        return text or None
    return number if math.isfinite(number) else None


def _rows(runs: Sequence[Run], reported: Sequence[Row]) -> list[Row]:
    """One a run as the report counts them (folds are one), and one each job that makes none yet."""
    named = name_arms(distinct(runs))
    whole, _ = together(named)
    inside = {part.folder for run in whole for part in run.parts or (run,)}
    scores = {Path(str(row.get("folder"))).name: row for row in reported}
    rows = []
    for run in [*whole, *(run for run in named if run.folder not in inside)]:
        parts = run.parts or (run,)
        found = next(
            (scores[part.folder.name] for part in parts if part.folder and part.folder.name in scores), {}
        )
        kept = {name: value for name, value in found.items() if name not in ("experiment", "folder")}
        without = {FOLD} if len(parts) > 1 else set()
        config = {name: value for name, value in _flat(run).items() if name not in without}
        place = run.folder.name if run.folder else ""
        about = {"run": place, "arm": run.arm, "seed": run.seed, "jobs": len(parts)}
        rows.append(
            {**kept, **about, "config": config, "named": [name for name in run.overrides if name in config]}
        )
    if not rows:  # predictions that were made elsewhere
        rows = [{**row, "run": "", "jobs": 0, "config": {}, "named": []} for row in reported]
    return rows


def _flat(run: Run) -> dict[str, str]:
    """Every value of the config by its dotted name, and the choices that the command line named."""
    file = (run.folder or Path()) / RUN_FILE
    state = file.stat()
    chosen = {name: str(value) for name, value in run.overrides.items()}
    return {**_settings(file, state.st_mtime_ns, state.st_size), **chosen}


def scores_of(sweeps: Sequence[Sweep]) -> list[str]:
    """The scores that reports have with intervals."""
    names = dict.fromkeys(name for sweep in sweeps for row in sweep.arms for name in row)
    return [name for name in names if f"{name}{LOW}" in names and f"{name}{HIGH}" in names]


def keys_of(sweeps: Sequence[Sweep]) -> list[str]:
    """Names of config values in which runs differ, those first that a command line has named."""
    rows = [row for sweep in sweeps for row in sweep.rows]
    names = dict.fromkeys(name for row in rows for name in row["named"])
    names |= dict.fromkeys(name for row in rows for name in row["config"])
    return [name for name in names if len({row["config"].get(name) for row in rows}) > 1]


def curves(
    sweeps: Sequence[Sweep], score: str
) -> tuple[dict[str, list[tuple[float, float, float, float]]], int]:
    """Points (synthetic images to a real one, score, low, high) of each curve, and how many arms are in none.

    A curve has the arms of one sweep with the same number of real images a class. Arms without real images, or whose classes differ
    in them, have no ratio.
    """
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    left_out = 0
    for sweep in sweeps:
        for arm in sweep.arms:
            values = [arm.get(name) for name in (score, score + LOW, score + HIGH)]
            counts = [arm.get(name) for name in ("real_min", "real_max", "synthetic_min", "synthetic_max")]
            if not all(isinstance(value, float) for value in values + counts) or (
                not counts[0] or counts[0] != counts[1] or counts[2] != counts[3]
            ):
                left_out += 1
                continue
            name = f"{sweep.name}: {counts[0]:g} real a class"
            found.setdefault(name, []).append((counts[2] / counts[0], *values))  # type: ignore[operator, arg-type]
    return {name: sorted(points) for name, points in found.items()}, left_out


def page_of(root: Path, name: str) -> Path | None:
    """The report.html of a sweep by its name, if it is one and lies where the name says: no link leads out of the folder."""
    try:
        top = os.path.realpath(root)
        place = os.path.normpath(os.path.join(top, name, REPORT, PAGE))
        inside = place.startswith(top.rstrip(os.sep) + os.sep)
        good = inside and os.path.realpath(place) == place and os.path.isfile(place)
    except ValueError:  # a name with a null character
        return None
    return Path(place) if good else None
