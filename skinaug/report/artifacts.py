"""What the artifacts of a sweep's runs hold, read into plain tables."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from skinaug.manifest import FILE_NAME
from skinaug.report.collect import Run
from skinaug.store.artifact import read_record

NAMES = {"label": pl.String, "set": pl.String, "prompt_set": pl.String}  # which may be digits


def metrics(run: Run) -> dict[str, Any]:
    """A run's metrics.json: `val`, `test` and `train`; empty where it was made elsewhere, and of several jobs what they took together
    in `train` (images, steps and the best step are the first's)."""
    if run.parts:
        each = [metrics(part)["train"] for part in run.parts]
        taken = (
            {"seconds": sum(float(one["seconds"]) for one in each)}
            if all("seconds" in one for one in each)
            else {}
        )
        return {"val": {}, "test": {}, "train": each[0] | taken}
    if "classify" not in run.artifacts:
        return {"val": {}, "test": {}, "train": {}}
    return json.loads((run.artifacts["classify"] / "metrics.json").read_text())


def curves(run: Run) -> pl.DataFrame:
    """A run's curves.csv: `step` and what was logged at it; empty where it was made elsewhere."""
    if "classify" not in run.artifacts:
        return pl.DataFrame()
    return pl.read_csv(run.artifacts["classify"] / "curves.csv", infer_schema_length=None)


def mix_table(run: Run) -> pl.DataFrame:
    """Training images a class: `label`, `real` (distinct photographs), `repeated` (further copies of them), `synthetic`; no rows
    where nobody knows."""
    if "mix" not in run.artifacts:
        return pl.DataFrame(
            schema={"label": pl.String} | dict.fromkeys(("real", "repeated", "synthetic"), pl.Int64)
        )
    return _mix_table(run.artifacts["mix"])


@lru_cache(maxsize=4096)
def _mix_table(folder: Path) -> pl.DataFrame:
    rows = pl.scan_parquet(folder / FILE_NAME)
    made = pl.col("parents").is_not_null() if "parents" in rows.collect_schema() else pl.lit(False)
    photographs = rows.filter((pl.col("source") == "real") & ~made)
    real = photographs.group_by("label").agg(pl.col("sha256").n_unique()).collect()
    distinct = dict(real.iter_rows())
    # It counts the copies that stand in for synthetic images as real ones, whatever has been done to them.
    table = pl.read_csv(folder / "table.csv", schema_overrides=NAMES)
    counts = pl.Series("real", [distinct.get(label, 0) for label in table["label"]], dtype=pl.Int64)
    return table.select("label", counts, (pl.col("real") - counts).alias("repeated"), "synthetic")


def funnel(folder: Path) -> pl.DataFrame:
    """A curated pool's funnel.csv: label, prompt_set, subgroup, step, kept, reason, images; the first step is `generated`."""
    table = pl.read_csv(
        folder / "funnel.csv", schema_overrides=NAMES | {"subgroup": pl.String, "reason": pl.String}
    )
    return table.with_columns(pl.col("prompt_set", "subgroup", "reason").cast(pl.String).fill_null(""))


def fidelity(folder: Path) -> pl.DataFrame:
    """An audit's fidelity.csv: set, label (or `all`), metric, value, low, high, images, real_images, warning."""
    return pl.read_csv(
        folder / "fidelity.csv", schema_overrides=NAMES | {"low": pl.Float64, "high": pl.Float64}
    )


def memorisation(folder: Path) -> dict[str, Any]:
    """An audit's memorisation.json: what `copies_found` tells of the raw and the curated pool."""
    return json.loads((folder / "memorisation.json").read_text())


def attributes(folder: Path) -> pl.DataFrame:
    """An audit's attributes.csv: label, body_site, skin_type, tone, size, images, kept."""
    table = pl.read_csv(folder / "attributes.csv", schema_overrides=NAMES | {"skin_type": pl.String})
    return table.with_columns(pl.col("body_site", "skin_type").cast(pl.String).fill_null(""))


def obedience(folder: Path) -> pl.DataFrame:
    """An audit's obedience.csv (`audit.obedience.SCHEMA`); empty where it was not measured."""
    file = folder / "obedience.csv"
    if not file.is_file():
        return pl.DataFrame()
    return pl.read_csv(file, schema_overrides=dict.fromkeys(("obedience", "low", "high"), pl.Float64))


def certificate(run: Run) -> dict[str, Any] | None:
    """A run's leak certificate; None where it has none."""
    if "classify" not in run.artifacts:
        return None
    file = run.artifacts["classify"] / "certificate.json"
    return json.loads(file.read_text()) if file.is_file() else None


def holds(folder: Path) -> bool:
    """Whether the leak certificate of an artifact holds."""
    return bool(json.loads((folder / "certificate.json").read_text())["holds"])


def record(folder: Path) -> dict[str, Any]:
    """An artifact's artifact.json."""
    return read_record(folder)
