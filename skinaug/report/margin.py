"""As good as the baseline: non-inferiority and equivalence within a margin that was stated before the results were seen.

An arm is not inferior where the interval of its difference lies above minus the margin, and equivalent where it lies between
minus and plus the margin, which are two one-sided tests (Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics
15:657; Ahn, Park and Lee 2013, Radiology 267:328). The interval is the adjusted one of 95 % on which "improves" and "harms"
stand, so that no two verdicts contradict each other, all hold together, and each of them alone errs in 2.5 % of studies at
most: two one-sided tests at 5 % would take an interval of 90 % and say "equivalent" more easily.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from skinaug.errors import InputError
from skinaug.report import planning, statistics
from skinaug.report.statistics import Variance

if TYPE_CHECKING:
    from skinaug.report.measure import Measured

JUDGED = "top1"  # the score that verdicts stand on, and the margin's
EQUIVALENT, NON_INFERIOR, INFERIOR, UNDECIDED = FINDINGS = (
    "equivalent",
    "non_inferior",
    "inferior",
    "undecided",
)
WORDS = {  # in a table, whose heading tells the margin
    EQUIVALENT: "equivalent",
    NON_INFERIOR: "not worse by more",
    INFERIOR: "worse by more",
    UNDECIDED: "not shown either way",
}
MARGIN = {
    "margin": pl.Float64,
    "non_inferior": pl.Boolean,
    "equivalent": pl.Boolean,
    "inferior": pl.Boolean,
    "power_non_inferior": pl.Float64,
    "power_equivalent": pl.Float64,
    "seeds_non_inferior": pl.Int64,
    "seeds_equivalent": pl.Int64,
}


def check_margin(margin: Any) -> None:
    """Raises InputError where `report.margin` is no number of points above 0 and below 100; None is no margin."""
    if margin is None:
        return
    number = isinstance(margin, int | float) and not isinstance(margin, bool)
    if not number or not 0 < margin < 100:
        raise InputError(
            f"report.margin={margin} is no margin: give points of top-1 above 0 and below 100, such as report.margin=3, or "
            "null for none."
        )


def judged(differences: pl.DataFrame, measured: Measured, margin: float | None) -> pl.DataFrame:
    """Differences with what the margin says of them, in further columns that are null but for top-1; as they are without a margin.

    Columns: `margin`, a share; `non_inferior`, `equivalent` and `inferior` (worse by more than the margin), by the adjusted interval;
    `power_non_inferior` and `power_equivalent`, the chance of showing it with these patients and seeds were the arms alike, and
    `seeds_non_inferior` and `seeds_equivalent`, the seeds for 80 %; null with one seed and where no number would do.

    Args:
        differences: `measure.differences` of a whole family.
        margin: in points.
    """
    if margin is None:
        return differences
    level = statistics.LEVEL / max(1, differences.filter(pl.col("metric") == JUDGED).height)
    rows = [
        _row(row, measured, margin / 100, level) if row["metric"] == JUDGED else dict.fromkeys(MARGIN)
        for row in differences.iter_rows(named=True)
    ]
    return pl.concat([differences, pl.DataFrame(rows, schema=MARGIN)], how="horizontal")


def _row(row: Mapping[str, Any], measured: Measured, margin: float, level: float) -> dict[str, Any]:
    low, high = row["low_adjusted"], row["high_adjusted"]
    _, variance = measured.difference(row["arm"], row["baseline"], JUDGED)
    return {
        "margin": margin,
        "non_inferior": low > -margin,
        "equivalent": -margin < low and high < margin,
        "inferior": high < -margin,
        "power_non_inferior": float(planning.power(margin, variance, level)),
        "power_equivalent": planning.power_within(margin, variance, level),
        "seeds_non_inferior": planning.seeds_needed(margin, variance, level),
        "seeds_equivalent": seeds_within(margin, variance, level),
    }


def seeds_within(margin: float, variance: Variance, level: float) -> int | None:
    """Seeds with which 80 % of studies on these test patients would show equivalence, were the arms alike.

    Returns:
        None with one seed, whose spread is unknown, and where no number of seeds would do: the patients are too few.
    """
    if variance.num_seeds == 1:
        return None
    counts = range(2, planning.MOST_SEEDS + 1)

    def enough(count: int) -> bool:
        return planning.power_within(margin, variance, level, count) >= planning.POWER

    found = bisect_left(counts, True, key=enough)
    return counts[found] if found < len(counts) else None


def finding(row: Mapping[str, Any]) -> str:
    """The strongest that is shown of a row of `judged` by top-1."""
    return next((name for name in FINDINGS[:-1] if row[name]), UNDECIDED)


def verdict(row: Mapping[str, Any]) -> str:
    """That in words."""
    return WORDS[finding(row)] + {
        EQUIVALENT: f" within {points_of(row)}",
        UNDECIDED: "",
    }.get(finding(row), f" than {points_of(row)}")


def heading(differences: pl.DataFrame) -> str:
    """Of the column with these words; empty without a margin."""
    first = differences.head(1).rows(named=True)
    return f"Margin of {points_of(first[0])}" if first and first[0].get("margin") is not None else ""


def points_of(row: Mapping[str, Any]) -> str:
    """The margin of a row, in points."""
    return f"{100 * row['margin']:.6g} point{'' if row['margin'] == 0.01 else 's'}"


def planned(row: Mapping[str, Any]) -> str:
    """How well the study could have shown an arm that is like the baseline not to be worse, and what it takes to show it: of rows
    that show nothing, no difference either."""
    if finding(row) != UNDECIDED or row["high_adjusted"] < 0:
        return ""
    seeds = row["seeds_non_inferior"]
    none = "more seeds needed" if row["seeds"] == 1 else "more patients needed"
    needed = f"80 % with {seeds:,} seeds" if seeds is not None else none
    return f"power {100 * row['power_non_inferior']:.0f} %, {needed}"


def clause(row: Mapping[str, Any]) -> str:
    """The end of a sentence about an arm: nothing without a margin, and of an arm that improves no more than that it is equivalent."""
    improves, harms = row["low_adjusted"] > 0, row["high_adjusted"] < 0
    if row.get("margin") is None or (improves and not row[EQUIVALENT]):
        return ""
    if finding(row) == UNDECIDED:
        about = f" ({told})" if (told := planned(row)) else ""
        return f"; whether worse by more than {points_of(row)} is {verdict(row)}{about}"
    return f"; {'yet ' * (row[EQUIVALENT] and (improves or harms))}{verdict(row)}"


def crowd_clause(part: pl.DataFrame) -> str:
    """The same about many arms of one verdict, counted."""
    if "margin" not in part.columns:
        return ""
    rows = sorted(part.iter_rows(named=True), key=lambda row: FINDINGS.index(finding(row)))
    words = [verdict(row) for row in rows]
    return "; " + ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def note(differences: pl.DataFrame) -> str:
    """How to read the margin's verdicts; nothing without a margin."""
    if not (said := heading(differences)):
        return ""
    return (
        f"{said} of top-1. “Not worse by more” (non-inferior) stands where the adjusted 95 % interval lies above minus the margin, "
        "“equivalent” where it lies within plus and minus the margin. It is the interval of “improves” and “harms”, stricter than the 90 % of "
        "two one-sided tests at 5 %. Power is for arms that are alike. A margin counts only where it was set before the results were seen."
    )
