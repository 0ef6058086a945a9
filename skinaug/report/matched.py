"""Matched exposure: how much of a gain is the synthetic images', and how much is photographs that only their makers were given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from skinaug.report import artifacts, statistics
from skinaug.report.collect import Study
from skinaug.report.exposure import seen
from skinaug.report.measure import SCORES, Measured
from skinaug.report.run import EXPOSURE
from skinaug.report.tables import Cell, Table, number, points, table

JUDGES = ("top1", "balanced_accuracy")
GAINS = ("gain_all", "gain_matched", "beyond")
MATCHED = {
    "arm": pl.String,
    "matched": pl.String,
    "baseline": pl.String,
    "metric": pl.String,
    "seeds": pl.Int64,
    "own_photographs": pl.Int64,
    "seen_photographs": pl.Int64,
    "seen_matched": pl.Int64,
    **{f"{gain}{end}": pl.Float64 for gain in GAINS for end in ("", "_low", "_high")},
}


def twins(study: Study) -> dict[str, str]:
    """Arms whose generator and filters have seen all training photographs -> the same arm with those of the arm alone."""
    without: dict[str, dict[str, str]] = {}
    for arm in study.arms:
        settings = dict(study.of(arm)[0].settings)
        if exposure := settings.pop(EXPOSURE, None):
            without.setdefault(repr(sorted(settings.items())), {})[str(exposure)] = arm
    return {own["all"]: own["arm"] for own in without.values() if {"all", "arm"} <= own.keys()}


def matched_frame(study: Study, measured: Measured) -> pl.DataFrame:
    """One row an arm that was judged with both exposures, and score of JUDGES: three differences with 95 % intervals, each for itself.

    Columns: `gain_all`, the gain over the baseline with a generator and filters that have seen all training photographs; `gain_matched`, the gain with
    those of the arm alone, which is the synthetic images' own; `beyond`, the one less the other: what photographs bring that the arm was
    not given. `own_photographs` of the arm, and `seen_photographs` and `seen_matched` by generator and filters of either. No rows
    where a sweep has not both.
    """
    rows = []
    for arm, twin in twins(study).items():
        seeds = measured.seeds(arm, twin, study.baseline)
        if study.baseline in (arm, twin) or not seeds:
            continue
        first, second = study.of(arm)[0], study.of(twin)[0]
        about = {"arm": arm, "matched": twin, "baseline": study.baseline, "seeds": len(seeds)}
        about |= {"own_photographs": int(artifacts.mix_table(first)["real"].sum())}
        about |= {"seen_photographs": seen(first), "seen_matched": seen(second)}
        for metric in JUDGES:
            row: dict[str, Any] = {**about, "metric": metric}
            pairs = ((arm, study.baseline), (twin, study.baseline), (arm, twin))
            for gain, (one, other) in zip(GAINS, pairs, strict=True):
                found = statistics.interval(*measured.chance({one: 1, other: -1}, metric))
                row |= {
                    gain: float(found.mean),
                    f"{gain}_low": float(found.low),
                    f"{gain}_high": float(found.high),
                }
            rows.append(row)
    return pl.DataFrame(rows, schema=MATCHED)


def notes(frame: pl.DataFrame) -> Iterator[str]:
    """What of each arm's gain is whose, by top-1."""
    for row in frame.filter(pl.col("metric") == "top1").iter_rows(named=True):
        yield (
            f"{row['arm']} less {row['baseline']}: {_told(row, 'gain_all')} points, where generator and filters have seen "
            f"{number(row['seen_photographs'])} photographs. Of these, {_told(row, 'gain_matched')} with the {number(row['seen_matched'])} photographs of "
            f"the arm alone, and {_told(row, 'beyond')} by photographs that the arm was not given."
        )


def matched_table(frame: pl.DataFrame) -> Table | None:
    """A row an arm and score; None where there are none."""
    rows = []
    for row in frame.iter_rows(named=True):
        gains = [
            Cell(points(row[gain]), f"{points(row[f'{gain}_low'])} to {points(row[f'{gain}_high'])}")
            for gain in GAINS
        ]
        about = [row["arm"], SCORES[row["metric"]], row["own_photographs"], row["seen_photographs"]]
        rows.append([*about, *gains])
    header = [
        "Arm",
        "Score",
        "Own photographs",
        "Seen by generator and filters",
        "Gain, all seen",
        "Gain, matched exposure",
        "Not the arm's own",
    ]
    return table(header, rows, words=2) if rows else None


def _told(row: Mapping[str, Any], gain: str) -> str:
    return f"{points(row[gain])} ({points(row[f'{gain}_low'])} to {points(row[f'{gain}_high'])})"
