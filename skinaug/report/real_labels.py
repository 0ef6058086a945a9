"""Photographs whose labels are in doubt, and those that show something else, as the audit `real_labels` suspects them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from skinaug.manifest import SPLITS, read_once
from skinaug.report import samples
from skinaug.report.collect import Study
from skinaug.report.samples import Thumbnail
from skinaug.report.tables import Table, table

STAGE = "real_labels"
SHOWN = 24  # suspects of each kind that the page shows
CAUTION = (
    "Suspicion is no proof: rare and hard cases are among them. Nothing was dropped, and photographs of all splits were looked at; who "
    "corrects labels of the test split changes what is judged for all arms alike."
)


@dataclass(frozen=True)
class Suspect:
    """A photograph, and what is doubtful of it."""

    image: Thumbnail
    text: str


def read(folder: Path) -> pl.DataFrame:
    """An audit's real_labels.csv: image_id, path, split, group_id, label, guess, label_score, label_issue, topic_score, off_topic."""
    text = dict.fromkeys(("image_id", "path", "group_id", "label", "guess"), pl.String)
    return pl.read_csv(folder / f"{STAGE}.csv", schema_overrides=text, infer_schema_length=None)


def tables(study: Study) -> list[Table]:
    """Counts of each data set that was looked at."""
    return [counts_table(folder) for folder in study.artifacts(STAGE)]


def pictures(study: Study) -> list[tuple[list[Suspect], list[Suspect]]]:
    """Of each data set, suspects by label and by topic."""
    runs = {run.artifacts[STAGE]: run.artifacts["dataset"] for run in study.runs if STAGE in run.artifacts}
    return [suspects(folder, data) for folder, data in runs.items()]


def counts_table(folder: Path) -> Table:
    """Photographs of each split, and how many of them are suspected."""
    found = read(folder)
    rows: list[list[Any]] = []
    for name, part in [
        *((split, found.filter(pl.col("split") == split)) for split in SPLITS),
        ("all", found),
    ]:
        suspected = [int(part[column].sum()) for column in ("label_issue", "off_topic")]
        rows.append([name, part.height, int(part["guess"].count()), *suspected])
    return table(["Split", "Photographs", "Labels judged", "Labels suspected", "Off-topic"], rows)


def suspects(folder: Path, dataset: Path) -> tuple[list[Suspect], list[Suspect]]:
    """The most doubtful labels, and the pictures that are most unlike the others.

    dataset: the folder of the data set's artifact.
    """
    found, data = read(folder), read_once(dataset)
    paths = dict(zip(data.table["image_id"], data.paths(), strict=True))

    def shown(column: str, score: str, text: str) -> list[Suspect]:
        worst = found.filter(column).sort(score, "image_id").head(SHOWN)
        return [
            Suspect(
                samples.thumbnail(paths[row["image_id"]], f"photograph {row['image_id']}"), text.format(**row)
            )
            for row in worst.iter_rows(named=True)
        ]

    return (
        shown(
            "label_issue", "label_score", "{label} → {guess}, score {label_score:.2f}, {split}: {image_id}"
        ),
        shown("off_topic", "topic_score", "{label}, score {topic_score:.2f}, {split}: {image_id}"),
    )
