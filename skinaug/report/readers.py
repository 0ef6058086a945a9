"""Whether readers can tell synthetic images from photographs: areas under their ROC curves, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from skinaug.report import samples, statistics
from skinaug.report.collect import Study
from skinaug.report.statistics import LEVEL
from skinaug.report.tables import Cell, Table, table

STAGE = "readings"  # the artifact of what readers answered, beside those that a job makes
FILE_NAME = "readings.parquet"
ALL = "all readers"
SURE = 4  # the answer of who is sure that a picture is synthetic; 1 is sure that it is real
AUC = {
    "reader": pl.String,
    "photographs": pl.Int64,
    "synthetic": pl.Int64,
    "auc": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "right": pl.Float64,
}
ABOUT = (
    "Readers saw photographs and synthetic images in equal numbers, without knowing which, and said how sure they were (1 surely real to 4 "
    "surely synthetic). The area under the ROC curve is 0.5 where they cannot tell and 1 where they always can."
)


def study_frame(study: Study, num_resamples: int, seed: int) -> pl.DataFrame:
    """`auc_frame` of each pool that was read, with its name in the column `pool`."""
    names = dict(zip(study.artifacts("curate"), samples.pools(study), strict=False))
    folders = {run.artifacts[STAGE]: run.artifacts["curate"] for run in study.runs if STAGE in run.artifacts}
    frames = []
    for folder, pool in folders.items():
        frame = auc_frame(pl.read_parquet(folder / FILE_NAME), num_resamples, seed)
        frames.append(frame.select(pl.lit(names.get(pool, pool.name)).alias("pool"), *AUC))
    return pl.concat(frames)


def told(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """The verdict and the table of each pool."""
    pools = frame.group_by("pool", maintain_order=True)
    return {str(name): {"verdict": verdict(rows), "table": auc_table(rows)} for (name,), rows in pools}


def auc_frame(readings: pl.DataFrame, num_resamples: int = 2000, seed: int = 0) -> pl.DataFrame:
    """One row a reader, and one of all together where there are several: the columns of `AUC`.

    The area under the ROC curve takes answers as scores, ties counted half. A reader's interval covers the chance of pictures (patients,
    of photographs), by DeLong's placement values; that of all covers readers and pictures (Obuchowski and Rockette 1995), on the pictures
    that all of them answered. Where a reader has told all apart, or none, pictures as they are vary nothing, and the interval is Clopper
    and Pearson's for as many trials as the rarer kind has pictures. `right`: share of answers on the right side of the middle.

    Args:
        readings: reader, image_id, group_id, source (real, synthetic) and answer (1 to 4).

    Returns:
        no row of readers who have not answered both kinds, and none of all where they have no pictures of both kinds in common.
    """
    readers = [part for _, part in readings.group_by("reader", maintain_order=True)]
    rows = [_row(part["reader"][0], [part], num_resamples, seed) for part in readers]
    told = [part for part, row in zip(readers, rows, strict=True) if row]
    if len(told) > 1:
        shared = set.intersection(*(set(part["image_id"]) for part in told))
        common = [part.filter(pl.col("image_id").is_in(list(shared))) for part in told]
        rows.append(_row(ALL, common, num_resamples, seed))
    return pl.DataFrame([row for row in rows if row], schema=AUC, orient="row")


def _row(name: str, parts: list[pl.DataFrame], num_resamples: int, seed: int) -> dict[str, Any] | None:
    """The row of readers of the same pictures."""
    parts = [part.sort("image_id") for part in parts]
    synthetic = (parts[0]["source"] == "synthetic").to_numpy()
    if synthetic.all() or not synthetic.any():
        return None
    patient = pl.when(pl.col("source") == "real").then("group_id").otherwise("image_id")
    names = parts[0].select(pl.concat_str(["source", patient], separator="\0")).to_series().to_numpy()
    groups, codes = np.unique(names, return_inverse=True)
    counts = statistics.draw_counts(len(groups), len(groups), num_resamples, np.random.default_rng(seed))
    scores, resampled = [], []
    for part in parts:
        sure = (part["answer"].to_numpy() - 1) / (SURE - 1)
        terms = statistics.image_terms(np.stack([1 - sure, sure], 1), synthetic.astype(int))
        sums = statistics.group_sums(terms, codes, len(groups))
        scores.append(float(statistics.scores(statistics.total(sums))["auroc"]))
        resampled.append(statistics.scores(statistics.resample(sums, counts))["auroc"])
    found = statistics.two_level(np.array(scores), np.stack(resampled, 1))
    mean, low, high = (float(value) for value in (found.mean, found.low, found.high))
    if mean in (0, 1):
        most = float(LEVEL / 2) ** (1 / min(synthetic.sum(), (~synthetic).sum()))
        low, high = (most, 1.0) if mean else (0.0, 1 - most)
    right = np.mean([((part["answer"] > SURE / 2).to_numpy() == synthetic).mean() for part in parts])
    return {
        "reader": name,
        "photographs": int((~synthetic).sum()),
        "synthetic": int(synthetic.sum()),
        "auc": mean,
        "low": max(low, 0.0),
        "high": min(high, 1.0),
        "right": float(right),
    }


def auc_table(frame: pl.DataFrame) -> Table:
    """A row a reader."""
    rows = []
    for row in frame.iter_rows(named=True):
        auc = Cell(f"{row['auc']:.2f}", f"{row['low']:.2f}–{row['high']:.2f}")
        rows.append([row["reader"], row["photographs"], row["synthetic"], auc, f"{100 * row['right']:.0f}"])
    return table(["Reader", "Photographs", "Synthetic images", "AUC", "Right, %"], rows)


def verdict(frame: pl.DataFrame) -> str:
    """What the last row, of all readers or of the only one, shows."""
    if frame.is_empty():
        return "No reader has answered pictures of both kinds yet."
    row = frame.row(-1, named=True)
    who = "The readers" if row["reader"] == ALL else row["reader"]
    told = "can tell" if row["low"] > 0.5 else "were not shown to be able to tell"
    if row["high"] < 0.5:
        told = "take photographs for synthetic images rather than tell"
    return (
        f"{who} {told} synthetic images from photographs: AUC {row['auc']:.2f} (95 % interval {row['low']:.2f} to {row['high']:.2f}) "
        f"on {row['photographs']} photographs and {row['synthetic']} synthetic images."
    )
