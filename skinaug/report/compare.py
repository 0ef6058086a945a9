"""Runs or sweeps beside each other in the terminal, arm by arm, with a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase

from rich.console import Console

from skinaug.errors import InputError, listing, plural
from skinaug.report import collect, failures, measure, tables
from skinaug.report.alike import pair
from skinaug.report.collect import Run
from skinaug.report.terminal import TERMINAL, print_failures, terminal_table


def compare(folders: Sequence[Path], num_resamples: int = 2000, seed: int = 0) -> None:
    """Print the arms of each folder, what changes from the first folder to the others, and what has failed or cannot be paired.

    Arms are paired by what they share (`alike.pair`); where folders have one arm each, these are, whatever they are.
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
        letter: collect.asked_runs(folder) for letter, folder in zip(ascii_uppercase, folders, strict=False)
    }
    pairs, alone = _pairs(places)
    runs = [replace(run, arm=f"{place}: {run.arm}") for place, own in places.items() for run in own]
    study = collect.make_study(runs)
    measured = measure.measure(study, num_resamples, seed)
    paired = measure.differences(study, measured, pairs)
    console = Console()
    for (letter, own), folder in zip(places.items(), folders, strict=True):
        count = plural(sum(run.failure is None for run in own), "run")
        console.print(f"{letter}  {folder}  ({count})", highlight=False, soft_wrap=True)
    arms = measure.arms_frame(study, measured)
    console.print(
        terminal_table(tables.arms_table(arms, TERMINAL), "Scores on real test images, %, with 95 % interval")
    )
    if study.failed:
        print_failures(console, failures.told(failures.failures_frame(study.failed, study.arms)))
    for line in alone:
        console.print(f"not paired: {line}", highlight=False, markup=False, soft_wrap=True)
    if paired.is_empty():
        raise InputError(
            "The runs have no seed in common, so nothing can be paired: run both with the same seeds."
        )
    title = "Differences in points, paired by patient and seed, adjusted"
    console.print(terminal_table(tables.paired_table(paired, TERMINAL[:2]), title))


def _pairs(places: dict[str, list[Run]]) -> tuple[list[tuple[str, str]], list[str]]:
    """Arms of the later places with those of the first that they are compared with, and what is said of the others."""
    finished = {place: [run for run in runs if run.failure is None] for place, runs in places.items()}
    arms = {place: list(dict.fromkeys(run.arm for run in runs)) for place, runs in finished.items()}
    first, *others = arms
    if all(len(names) == 1 for names in arms.values()):
        return [(f"{place}: {arms[place][0]}", f"{first}: {arms[first][0]}") for place in others], []
    pairs, alone = [], []
    for place in others:
        found, reasons = pair(finished[place], finished[first])
        pairs += [(f"{place}: {arm}", f"{first}: {other}") for arm, other in found.items()]
        alone += [f"{place}: {arm}: {first} has {reason}" for arm, reason in reasons.items()]
    used = {other for _, other in pairs}
    alone += [
        f"{first}: {arm}: no other folder has an arm that goes with it"
        for arm in arms[first]
        if f"{first}: {arm}" not in used
    ]
    if not pairs:
        named = "; ".join(f"{place} has {', '.join(names)}" for place, names in arms.items())
        raise InputError(f"No arms can be paired: {named}.\n{listing(alone)}")
    return pairs, alone
