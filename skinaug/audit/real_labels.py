"""Label errors and off-topic pictures among the real photographs: what cleanlab suspects, for people to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skinaug.errors import InputError, plural
from skinaug.manifest import SPLITS, Manifest
from skinaug.metrics.features import embed

FILE_NAME = "real_labels.csv"
SCHEMA = {
    "image_id": pl.String,
    "path": pl.String,
    "split": pl.String,
    "group_id": pl.String,
    "label": pl.String,
    "guess": pl.String,
    "label_score": pl.Float64,
    "label_issue": pl.Boolean,
    "topic_score": pl.Float64,
    "off_topic": pl.Boolean,
}
NAMED = 10  # of the suspects of each kind that are printed


def audit_labels(
    backbone: Callable[..., nn.Module],
    image_size: int,
    probe: Callable[[], Any],
    folds: int = 5,
    neighbours: int = 10,
    off_topic_distance: float = 1.5,
    seed: int = 0,
    *,
    data: Manifest,
    cache: Path | None,
    device: torch.device,
    out: Path,
) -> None:
    """Write real_labels.csv, one row a photograph of any split. Nothing is dropped or changed.

    Columns: image_id, path, split, group_id, label; `guess`, the class that a probe thinks likeliest which has learned from other
    patients alone; `label_score`, the probability that it gives the label, in [0, 1]; `label_issue`, whether confident learning
    takes the label for wrong (Northcutt, Jiang and Chuang 2021, Journal of Artificial Intelligence Research 70:1373); guess and
    score are null of classes with fewer patients than folds, which are not judged. `topic_score`, in (0, 1], the lower the farther
    the picture lies from its nearest neighbours (Kuan and Mueller 2022, arXiv 2207.03061); `off_topic`, whether that is too far.

    Args:
        backbone, image_size: the network whose features the probe learns from.
        probe: makes a classifier of scikit-learn with `predict_proba`; its features are standardised.
        folds: of patients; each photograph is judged by a probe that has learned from the other folds.
        neighbours: by whose mean cosine distance a picture counts as off-topic.
        off_topic_distance: as many times the median picture's distance as a picture must have to be off-topic.
        seed: of the folds.
        data: the photographs with all splits.
        cache: file of what was computed of each picture (`blobs`).
        device: where the network runs.
        out: receives the file.

    Raises:
        InputError: cleanlab is not installed, settings that cannot work, or too few photographs.
    """
    check_settings(folds, neighbours, off_topic_distance)
    if len(data) <= neighbours:
        raise InputError(
            f"audit.real_labels.neighbours={neighbours}: there are {len(data)} photographs, and each needs as many others. Lower it."
        )
    features = embed(data, backbone, image_size, cache=cache, device=device)
    judged = enough_patients(data.table, folds)
    table = data.table.select(
        "image_id", "path", "split", "group_id", "label", guess=pl.lit(None, pl.String),
        label_score=pl.lit(None, pl.Float64), label_issue=pl.lit(False),
    )  # fmt: skip
    if judged.any():
        rows = data.table.filter(judged)
        classes, codes = np.unique(rows["label"].to_numpy(), return_inverse=True)
        if len(classes) > 1:
            groups = rows["group_id"].to_numpy()
            probabilities = out_of_fold(features[judged], codes, groups, probe, folds, seed)
            found = suspects(rows["image_id"], classes, codes, probabilities)
            table = table.update(found, on="image_id")
    score, off_topic = off_topics(features, neighbours, off_topic_distance)
    table = table.with_columns(topic_score=score, off_topic=off_topic)
    table.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()).write_csv(out / FILE_NAME)


def check_settings(folds: int, neighbours: int, off_topic_distance: float) -> None:
    """Refuse what cannot work.

    Raises:
        InputError: as `audit_labels`.
    """
    for name, value, least in (("folds", folds, 2), ("neighbours", neighbours, 1)):
        if not isinstance(value, int) or value < least:
            raise InputError(f"audit.real_labels.{name}={value}: give a whole number of at least {least}.")
    if not isinstance(off_topic_distance, int | float) or not off_topic_distance > 1:
        raise InputError(
            f"audit.real_labels.off_topic_distance={off_topic_distance}: it is a multiple of the median distance, above 1."
        )
    try:
        import cleanlab  # noqa: F401
    except ImportError:
        raise InputError(
            "audit=real_labels needs cleanlab, which is not installed: pip install 'skinaug[labels]'."
        ) from None


def enough_patients(table: pl.DataFrame, folds: int) -> np.ndarray:
    """Which rows are of classes with as many patients as folds: boolean [N]."""
    return table.select(pl.col("group_id").n_unique().over("label") >= folds).to_series().to_numpy()


def out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    probe: Callable[[], Any],
    folds: int,
    seed: int,
) -> np.ndarray:
    """Probabilities of each row by a probe that has seen no row of its group: float [N, C].

    Args:
        features: float [N, D]; labels: int [N] in [0, C), each class of as many groups as folds; groups: [N].
    """
    probabilities = np.zeros((len(labels), labels.max() + 1))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for others, own in splitter.split(features, labels, groups):
        fitted = make_pipeline(StandardScaler(), probe()).fit(features[others], labels[others])
        probabilities[np.ix_(own, fitted.classes_)] = fitted.predict_proba(features[own])
    return probabilities


def suspects(
    image_ids: pl.Series, classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray
) -> pl.DataFrame:
    """Columns image_id, guess, label_score, label_issue."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    return pl.DataFrame(
        {
            "image_id": image_ids,
            "guess": classes[probabilities.argmax(1)],
            "label_score": get_label_quality_scores(labels, probabilities, method="self_confidence"),
            "label_issue": find_label_issues(labels, probabilities, n_jobs=1),
        }
    )


def off_topics(features: np.ndarray, neighbours: int, distance: float) -> tuple[pl.Series, pl.Series]:
    """cleanlab's score of each row among all, and whether its mean distance to its neighbours is so many times the median's."""
    from cleanlab.outlier import OutOfDistribution

    score = OutOfDistribution({"k": neighbours, "t": 1}).fit_score(features=features, verbose=False)
    far = -np.log(score)  # the score is exp(-mean distance)
    return pl.Series(score, dtype=pl.Float64), pl.Series(far > distance * np.median(far))


def read_table(folder: Path) -> pl.DataFrame:
    """The columns of `SCHEMA`."""
    return pl.read_csv(folder / FILE_NAME, schema=SCHEMA)


def print_labels(folder: Path) -> None:
    """Counts of each split, the worst of each kind, and where all are."""
    found, console = read_table(folder), Console()
    table = Table(
        "split", "photographs", "judged", "labels suspected", "off-topic",
        title="Labels of the real photographs", title_justify="left",
    )  # fmt: skip
    parts = [(split, found.filter(pl.col("split") == split)) for split in SPLITS]
    for name, part in [*parts, ("all", found)]:
        counts = [part.height, part["guess"].count(), part["label_issue"].sum(), part["off_topic"].sum()]
        table.add_row(name, *map(str, counts))
    console.print(table)
    for column, score, told in (
        ("label_issue", "label_score", "is labelled {label}, looks like {guess} (score {label_score:.2f})"),
        ("off_topic", "topic_score", "is unlike the other photographs (score {topic_score:.2f})"),
    ):
        worst = found.filter(column).sort(score, "image_id")
        for row in worst.head(NAMED).iter_rows(named=True):
            console.print(f"  {row['image_id']} {told.format(**row)}", highlight=False, markup=False)
        if worst.height > NAMED:
            console.print(f"  ... and {worst.height - NAMED} more", highlight=False)
    if unjudged := found["guess"].null_count():
        console.print(f"{plural(unjudged, 'label')} not judged: too few patients of the class.")
    console.print(f"Nothing was dropped. All rows: {folder / FILE_NAME}", highlight=False, soft_wrap=True)
