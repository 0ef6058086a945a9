"""Numbers to tables that people read: the same rows in HTML, Markdown and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.report import artifacts, margin, statistics
from skinaug.report.collect import Study
from skinaug.report.measure import SCORES
from skinaug.sources.vocabulary import place_on_scale, with_scale

TOPS = ("top1", "top2", "top3")
MOST_COLUMNS = 8  # arms side by side


@dataclass(frozen=True)
class Cell:
    """A value and, in smaller print, its interval or count; `heat` in [0, 1] colours its ground."""

    text: str
    note: str = ""
    heat: float | None = None

    def __str__(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header.

    Attributes:
        words: leading columns that hold text and stand left; the others are figures and stand right.
        groups: headings over the header, each with the number of columns that it spans; they add up to all columns.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1
    groups: Sequence[tuple[str, int]] = ()


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], words: int = 1) -> Table:
    """A Table of cells made from strings and numbers."""
    return Table(
        header,
        [[cell if isinstance(cell, Cell) else Cell(number(cell)) for cell in row] for row in rows],
        words,
    )


def number(value: Any) -> str:
    """Whole numbers with a comma at the thousands, others with one decimal, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
    return str(value)


def percent(share: float | None) -> str:
    return "–" if share is None or share != share else f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def thousandths(difference: float) -> str:
    """A difference of scores that are told with three decimals, with its sign."""
    return f"{difference:+.3f}".replace("-", "−")


def span(low: int | None, high: int | None) -> str:
    return number(low) if low == high else f"{number(low)}–{number(high)}"


def arms_table(arms: pl.DataFrame, metrics: Sequence[str]) -> Table:
    """Training images a class and scores with their intervals; baseline marked."""
    rows = []
    for row in arms.iter_rows(named=True):
        scores = [_score(row, name) for name in metrics]
        counts = [_count(row, source) for source in ("real", "synthetic")]
        rows.append([Cell(row["arm"], "baseline" if row["baseline"] else ""), row["seeds"], *counts, *scores])
    return table(["Arm", "Seeds", "Real / class", "Synthetic / class", *(SCORES[m] for m in metrics)], rows)


def _count(row: Mapping[str, Any], source: str) -> Cell:
    """Images a class of an arm, with the repetitions of real ones, if any, in small."""
    repeated = f"+ {span(row['repeated_min'], row['repeated_max'])} repeated"
    note = repeated if source == "real" and row["repeated_max"] else ""
    return Cell(span(row[f"{source}_min"], row[f"{source}_max"]), note)


def differences_table(differences: pl.DataFrame, metrics: Sequence[str]) -> Table:
    """Differences to the baseline in points with adjusted interval; verdict, by the margin too, and Holm's p-value by top-1."""
    rows, within = [], margin.heading(differences)
    for (arm,), part in differences.group_by("arm", maintain_order=True):
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        cells = [_difference(by_metric[metric]) for metric in metrics]
        words = [arm, _verdict(by_metric["top1"]), *([_within(by_metric["top1"])] if within else [])]
        rows.append([*words, p_text(by_metric["top1"]["p_holm"]), *cells])
    words = ["Arm", "Verdict by top-1", *([within] if within else [])]
    return table([*words, "p (Holm)", *(SCORES[m] for m in metrics)], rows, words=len(words))


def paired_table(paired: pl.DataFrame, metrics: Sequence[str]) -> Table:
    """The same for pairs of arms, each with the arm that it is compared with."""
    shown = differences_table(paired, metrics)
    against = dict(paired.select("arm", "baseline").unique().iter_rows())
    rows = [[row[0], Cell(against[row[0].text]), *row[1:]] for row in shown.rows]
    return table([shown.header[0], "Against", *shown.header[1:]], rows, words=shown.words + 1)


def _difference(row: Mapping[str, Any]) -> Cell:
    return Cell(points(row["difference"]), f"{points(row['low_adjusted'])} to {points(row['high_adjusted'])}")


def _verdict(row: Mapping[str, Any]) -> Cell:
    undecided = row["low_adjusted"] <= 0 <= row["high_adjusted"]
    return Cell(row["verdict"], f"could have seen ±{percent(row['detectable'])}" if undecided else "")


def _within(row: Mapping[str, Any]) -> Cell:
    return Cell(margin.WORDS[margin.finding(row)], margin.planned(row))


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def published_table(published: Mapping[str, Any], arms: pl.DataFrame) -> Table:
    """Published rows with the half-width that their number of test images implies, ours beside them.

    published: `citation`, `test_images` and `rows` of arm, real, synthetic and top1, top2, top3 in per cent.
    """
    ours = {row["arm"]: row for row in arms.iter_rows(named=True)}
    rows = []
    for row in published["rows"]:
        theirs = [_published_score(row.get(top), published["test_images"]) for top in TOPS]
        rows.append(
            [row["arm"], f"{row['real']} + {row['synthetic']}", *theirs, *_our_scores(ours.get(row["arm"]))]
        )
    scores = ["Real + synthetic / class", *(SCORES[top] for top in TOPS)]
    groups = [("", 1), ("Published", len(scores)), ("Ours", len(scores))]
    return replace(table(["Arm", *scores, *scores], rows), groups=groups)


def check_published(published: Mapping[str, Any]) -> None:
    """Raises InputError where keys of the published results are missing or their scores are not per cent."""
    faults = [f"no {key!r}" for key in ("citation", "test_images", "rows") if key not in published]
    for row in published.get("rows", []):
        faults += [
            f"row {row} has no {key!r}" for key in ("arm", "real", "synthetic", "top1") if key not in row
        ]
        faults += [f"row {row}: top1 is a percentage" for key in ("top1",) if not 0 <= row.get(key, 0) <= 100]
    if faults:
        raise InputError(
            f"report.published cannot be read: {'; '.join(faults)}. conf/report/akrout2023.yaml is an example."
        )


def _published_score(score: float | None, num_images: int) -> Cell:
    if score is None:
        return Cell("–")
    return Cell(f"{score:.2f}", f"± {100 * statistics.half_width(score / 100, num_images):.2f}")


def _our_scores(row: Mapping[str, Any] | None) -> list[Any]:
    if row is None:
        return [None] * (1 + len(TOPS))
    images = " + ".join(span(row[f"{source}_min"], row[f"{source}_max"]) for source in ("real", "synthetic"))
    return [images, *(_score(row, top) if top in row else None for top in TOPS)]


def _score(row: Mapping[str, Any], metric: str) -> Cell:
    return Cell(percent(row[metric]), f"{percent(row[f'{metric}_low'])}–{percent(row[f'{metric}_high'])}")


def funnel_table(folder: Path) -> Table:
    """Images a class that were generated and that each filter in turn left over; what filled a class up is told apart."""
    funnel = artifacts.funnel(folder)
    steps = list(dict.fromkeys(funnel["step"]))
    kept = funnel.filter("kept").with_columns(filled=pl.col("images") * (pl.col("reason") != ""))
    labels = list(dict.fromkeys(funnel["label"]))
    rows = [[label, *_funnel_cells(kept.filter(pl.col("label") == label), steps)] for label in labels]
    return table(["Class", *steps], [*rows, ["all", *_funnel_cells(kept, steps)]])


def _funnel_cells(kept: pl.DataFrame, steps: Sequence[str]) -> list[Cell]:
    sums = kept.group_by("step").agg(pl.col("images").sum(), pl.col("filled").sum())
    counts = {step: (images, filled) for step, images, filled in sums.iter_rows()}
    first = counts.get(steps[0], (0, 0))[0]
    cells = [Cell(number(first))]
    for step in steps[1:]:
        images, filled = counts.get(step, (0, 0))
        share = f"{100 * images / first:.0f} %" if first else ""
        cells.append(Cell(number(images), f"{share}, {number(filled)} filled up" if filled else share))
    return cells


def reasons_table(folder: Path) -> Table:
    """Why images went, or stayed against the rule: a row a filter and reason, by class."""
    funnel = artifacts.funnel(folder).filter(pl.col("reason") != "")
    labels = list(dict.fromkeys(artifacts.funnel(folder)["label"]))
    rows = []
    for (step, kept, reason), part in funnel.group_by("step", "kept", "reason", maintain_order=True):
        counts = dict(part.group_by("label").agg(pl.col("images").sum()).iter_rows())
        named = reason if reason != step else "fails its threshold"
        total = int(part["images"].sum())
        rows.append(
            [step, "kept" if kept else "rejected", named, total, *(counts.get(label, 0) for label in labels)]
        )
    return table(["Filter", "", "Reason", "all", *labels], rows, words=3)


def subgroups_table(folder: Path) -> Table | None:
    """Share of each prompt set's and subgroup's images that stay to the end, by class; None where there is one cell only."""
    funnel = artifacts.funnel(folder).filter("kept")
    last = funnel["step"][-1]
    cells = ["prompt_set", "subgroup"]
    if funnel.select(cells).unique().height < 2:
        return None
    labels = list(dict.fromkeys(funnel["label"]))
    sums = funnel.group_by(*cells, "label", "step").agg(pl.col("images").sum())
    counts = {row[:4]: row[4] for row in sums.iter_rows()}
    rows = []
    found = funnel.select(cells).unique().rows()
    for prompt_set, subgroup in sorted(found, key=lambda cell: (cell[0], place_on_scale(cell[1]))):
        shares = []
        for label in labels:
            made = counts.get((prompt_set, subgroup, label, "generated"), 0)
            left = counts.get((prompt_set, subgroup, label, last), 0)
            shares.append(Cell(f"{100 * left / made:.0f} %", f"{left} of {made}") if made else Cell("–"))
        rows.append([prompt_set, subgroup or "unsaid", *shares])
    asked = with_scale("Asked skin type", funnel["subgroup"])
    return table(["Prompt set", asked, *labels], rows, words=2)


def recall_table(recalls: pl.DataFrame, supports: Mapping[str, int]) -> Table:
    """Recall of each class (rows, with its number of test images) by arm (columns); of many arms the other way round."""
    arms, labels = (list(dict.fromkeys(recalls[name])) for name in ("arm", "label"))
    cells = {
        (arm, label): Cell(percent(r), f"{percent(low)}–{percent(high)}")
        for arm, label, r, low, high in recalls.iter_rows()
    }
    if len(arms) > MOST_COLUMNS:
        header = [f"{label} ({number(supports.get(label, 0))})" for label in labels]
        return table(["Arm", *header], [[arm, *(cells[arm, label] for label in labels)] for arm in arms])
    rows = [[label, supports.get(label, 0), *(cells[arm, label] for arm in arms)] for label in labels]
    return table(["Class", "Test images", *arms], rows)


def data_table(manifest: Manifest) -> Table:
    """Images and patients of each class and split."""
    splits = ("train", "val", "test")
    groups = manifest.table.group_by("label", "split").agg(
        pl.len(), pl.col("group_id").n_unique().alias("groups")
    )
    counts = {(label, split): (images, patients) for label, split, images, patients in groups.iter_rows()}
    rows = [
        [label, *(_images(*counts.get((label, split), (0, 0))) for split in splits)]
        for label in manifest.classes
    ]
    parts = [manifest.table.filter(pl.col("split") == split) for split in splits]
    totals = [_images(part.height, part["group_id"].n_unique()) for part in parts]
    return table(["Class", "Training", "Validation", "Test"], [*rows, ["all", *totals]])


def _images(images: int, patients: int) -> Cell:
    return Cell(number(images), f"{number(patients)} patient{'' if patients == 1 else 's'}")


def runs_table(runs: pl.DataFrame) -> Table:
    """Every job with its cost and scores; missing ones say so."""
    scores = {name: SCORES[name] for name in ("top1", "balanced_accuracy", "auroc")}
    rows = []
    for row in runs.iter_rows(named=True):
        cost = [row.get(name) for name in ("images", "steps", "best_step")]
        seconds = None if row.get("seconds") is None else float(row["seconds"])
        shown = [percent(row.get("val_top1")), *(percent(row[name]) for name in scores)]
        rows.append([row["arm"], row["status"], row["seed"], *cost, seconds, *shown])
    costs = ["Training images", "Steps", "Best step", "Seconds"]
    return table(["Arm", "Status", "Seed", *costs, "Validation top-1", *scores.values()], rows, words=2)


def supports(study: Study) -> dict[str, int]:
    """Test images of each class, in the first run."""
    first = study.predictions[0]
    labels = sorted(dict(zip(first.images, first.labels.tolist(), strict=True)).values())  # each image once
    return {study.classes[label]: len(list(same)) for label, same in groupby(labels)}
