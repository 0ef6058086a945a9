"""Runs or sweeps beside each other in the terminal, arm by arm, with a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase

from rich.console import Console

from skinaug.errors import InputError
from skinaug.report import collect, measure, tables
from skinaug.report.collect import Run
from skinaug.report.terminal import TERMINAL, terminal_table


def compare(folders: Sequence[Path], num_resamples: int = 2000, seed: int = 0) -> None:
    """Print the arms of each folder and what changes from the first folder to the others.

    Arms of one name are compared with each other; where folders have one arm each, these are, whatever their names.
    Differences are paired by seed and test patient, and adjusted for their number.

    Args:
        folders: at least two, of runs or sweeps.
        num_resamples, seed: of the bootstrap.

    Raises:
        InputError: fewer than two folders, no runs below one, or no arms that can be paired.
    """
    if not 2 <= len(folders) <= len(ascii_uppercase):
        raise InputError(f"skinaug compare needs two folders of runs or more, got {len(folders)}.")
    places = {
        letter: collect.name_arms(collect.distinct(collect.read_runs(folder)))
        for letter, folder in zip(ascii_uppercase, folders, strict=False)
    }
    pairs = _pairs(places)
    runs = [replace(run, arm=f"{place}: {run.arm}") for place, own in places.items() for run in own]
    study = collect.make_study(runs)
    measured = measure.measure(study, num_resamples, seed)
    paired = measure.differences(study, measured, pairs)
    console = Console()
    for (letter, own), folder in zip(places.items(), folders, strict=True):
        console.print(f"{letter}  {folder}  ({len(own)} runs)", highlight=False, soft_wrap=True)
    arms = measure.arms_frame(study, measured)
    console.print(
        terminal_table(tables.arms_table(arms, TERMINAL), "Scores on real test images, %, with 95 % interval")
    )
    if paired.is_empty():
        raise InputError(
            "The runs have no seed in common, so nothing can be paired: run both with the same seeds."
        )
    title = "Differences in points, paired by patient and seed, adjusted"
    console.print(terminal_table(tables.paired_table(paired, TERMINAL[:2]), title))


def _pairs(places: dict[str, list[Run]]) -> list[tuple[str, str]]:
    """Arms of the later places with those of the first that they are compared with."""
    arms = {place: list(dict.fromkeys(run.arm for run in runs)) for place, runs in places.items()}
    first, *others = arms
    if all(len(names) == 1 for names in arms.values()):
        return [(f"{place}: {arms[place][0]}", f"{first}: {arms[first][0]}") for place in others]
    pairs = [
        (f"{place}: {arm}", f"{first}: {arm}")
        for place in others
        for arm in arms[place]
        if arm in arms[first]
    ]
    if not pairs:
        named = "; ".join(f"{place} has {', '.join(names)}" for place, names in arms.items())
        raise InputError(
            f"No arm of the first folder has the name of one of another's, so nothing can be paired: {named}."
        )
    return pairs
