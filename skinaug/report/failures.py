"""Jobs that have left no run, as a table and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from skinaug.errors import listing, plural, printable
from skinaug.report.run import FOLD, POOL, SPLIT, Run
from skinaug.report.unfinished import NOT_ENDED

MOST_LETTERS = 500  # of a reason, where it is told in a line
MOST_JOBS = 8  # of one arm and reason that a line names
MOST_LINES = 12  # that are shown; failures.csv has all
SCHEMA = {"arm": pl.String, "jobs": pl.String, "count": pl.Int64, "in_part": pl.Boolean, "reason": pl.String}


def failures_frame(failed: Sequence[Run], arms: Sequence[str]) -> pl.DataFrame:
    """A row an arm and reason: which jobs, how many, whether others of the arm's jobs ended well, and why not.

    arms: those that have results.
    """
    found: dict[tuple[str, str], list[Run]] = {}
    for run in failed:
        found.setdefault((run.arm, run.failure or ""), []).append(run)
    rows = [(arm, _jobs(runs), len(runs), arm in arms, reason) for (arm, reason), runs in found.items()]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("in_part", maintain_order=True)


def _jobs(runs: Sequence[Run]) -> str:
    """Which jobs of an arm, in words: "seeds 0, 1", "seed 0 of fold 2"."""
    told = {SPLIT: "split", POOL: "pool", FOLD: "fold"}
    of = [
        [f"{word} {run.overrides[key]}" for key, word in told.items() if key in run.overrides] for run in runs
    ]
    if not any(of):
        seeds = list(dict.fromkeys(str(run.overrides.get("seed", run.seed)) for run in runs))
        more = f" and {len(seeds) - MOST_JOBS} more" if len(seeds) > MOST_JOBS else ""
        return f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds[:MOST_JOBS])}{more}"
    if len(runs) > MOST_JOBS:
        return plural(len(runs), "job")
    return "; ".join(" of ".join([f"seed {run.seed}", *own]) for run, own in zip(runs, of, strict=True))


class Told(NamedTuple):
    """What a report says of jobs that have left no run.

    Attributes:
        headline: how many there are.
        lines: arm and what became of it: those without any result first.
        beside_arms: what a table of arms does not show.
    """

    headline: str
    lines: list[tuple[str, str]]
    beside_arms: str


def told(failures: pl.DataFrame) -> Told:
    """The words of a `failures_frame`."""
    return Told(_headline(failures), _lines(failures), _beside_arms(failures))


def _headline(failures: pl.DataFrame) -> str:
    count, reasons = int(failures["count"].sum()), set(failures["reason"])
    verbs = ["failed"] * bool(reasons - {NOT_ENDED}) + ["did not end"] * (NOT_ENDED in reasons)
    them = "it" if count == 1 else "them"
    return f"{plural(count, 'job')} {' or '.join(verbs)}, and no figure here counts {them}:"


def _lines(failures: pl.DataFrame) -> list[tuple[str, str]]:
    """What arms have in common is told once."""
    together: dict[tuple[Any, ...], list[str]] = {}
    for arm, jobs, _, in_part, reason in failures.iter_rows():
        together.setdefault((jobs, in_part, reason), []).append(arm)
    words = [("; ".join(arms), _rest(len(arms), *about)) for about, arms in together.items()]
    left = len(words) - MOST_LINES
    return [*words[:MOST_LINES], *([(f"{left} more", ", in failures.csv")] if left > 0 else [])]


def _rest(arms: int, jobs: str, in_part: bool, reason: str) -> str:
    verb = (("lacks", "lack") if in_part else ("has no result of", "have no result of"))[arms > 1]
    return f" {verb} {jobs}: {in_a_line(reason)}"


def _beside_arms(failures: pl.DataFrame) -> str:
    without, fewer = (
        failures.filter(pl.col("in_part") == part)["arm"].unique(maintain_order=True).to_list()
        for part in (False, True)
    )
    them = "it" if len(without) == 1 else "them"
    parts = (
        [f"Not in this table, because no job of {them} ended well: {'; '.join(without)}."] if without else []
    )
    parts += [f"With fewer jobs than were asked for: {'; '.join(fewer)}."] if fewer else []
    return " ".join(parts)


def in_a_line(reason: str) -> str:
    """A reason of several lines in one: lines of a list apart by semicolons, the others sentences."""
    text = ""
    for line in filter(str.strip, reason.splitlines()):
        item = line.startswith(" ")
        between = " " if not text or text[-1] in ".:" else "; " if item else ". "
        text += between + line.strip()
    text = printable(text.strip())
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS].rstrip()} ..."


def refusal(failed: Sequence[Run]) -> str:
    """What to tell of a sweep of which no job has ended well, after the rest of a message; "" of no jobs."""
    if not failed:
        return ""
    words = [f"{arm}{rest}" for arm, rest in _lines(failures_frame(failed, ()))]
    return f"\nNone of its jobs ended well:\n{listing(words)}"
