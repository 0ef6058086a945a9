"""What a pool is like before and after curation: fidelity, memorisation, and what was asked for against what came out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import lightning as L
import numpy as np
import polars as pl
import torch
from rich import get_console
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest
from torch import nn

from skinaug.audit.obedience import FILE_NAME as OBEDIENCE
from skinaug.audit.obedience import Obedience, print_obedience
from skinaug.errors import InputError
from skinaug.manifest import Manifest
from skinaug.metrics.features import embed
from skinaug.metrics.fidelity import fidelity
from skinaug.metrics.frechet import statistics, too_few, write_statistics
from skinaug.metrics.memorisation import memorisation
from skinaug.metrics.skin import realised
from skinaug.models.given_features import Files, read_features
from skinaug.store.files import flush

ALL = "all"
RAW, CURATED, HELD_OUT = "raw", "curated", "real, held out"
REFERENCES = ("train", "val")
FIDELITY = {
    "set": pl.String,
    "label": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "images": pl.Int64,
    "real_images": pl.Int64,
    "warning": pl.String,
}


def audit_pool(
    backbone: Callable[..., nn.Module],
    image_size: int,
    features: Files | None = None,
    reference: str = "train",
    neighbours: int = 5,
    num_replicates: int = 50,
    max_images: int = 5_000,
    false_positive_rate: float = 0.01,
    seed: int = 0,
    obedience: Obedience | None = None,
    *,
    data: Manifest,
    raw: Manifest,
    curated: Manifest,
    trainer: Callable[..., L.Trainer],
    cache: Path | None,
    logger: Any = False,
    out: Path,
) -> None:
    """Write fidelity.csv, memorisation.parquet, memorisation.json, attributes.csv and, where it is measured, obedience.csv.

    Args:
        backbone, image_size: the network whose features tell how alike pictures are.
        features: files of features of your own instead, for fidelity, as `models.given_features.read_features` takes them, of
            every image of the real sets and the raw one.
        reference: split whose real images the sets are compared with: train or val. Test images are never looked at.
        neighbours: k of precision, recall, density and coverage.
        num_replicates: half-samples behind each interval.
        max_images: of a set that fidelity is measured on; larger sets are drawn from.
        false_positive_rate: share of fresh photographs that memorisation would take for copies.
        seed: of the draws.
        obedience: how words asked for are compared with words seen; None: not at all.
        data: the real images.
        raw, curated: the pool before and after curation.
        trainer: makes a Lightning Trainer: the device to use.
        cache: file of what was computed of each picture (`blobs`); the sets' feature statistics are kept beside it.
        logger: a Lightning Logger, which gets the measures over all classes, or False.
        out: receives the files.

    Raises:
        InputError: an unknown reference, a rate that is no share, or a features file that lacks images.
    """
    _check(reference, false_positive_rate)
    device = trainer().strategy.root_device
    vectors = _vectors(features, backbone, image_size, cache, device)
    real, train = data.split(reference), data.split("train")
    sets = {RAW: raw, CURATED: curated} | ({HELD_OUT: data.split("val")} if reference == "train" else {})
    settings = {"k": neighbours, "num_replicates": num_replicates, "max_images": max_images, "seed": seed}
    table = fidelity_table(real, sets, vectors, settings)
    table.write_csv(out / "fidelity.csv")
    if cache is not None:
        for images in (real, raw):
            save_statistics(vectors(images), cache.parent / "statistics")
    nearest, baseline = memorisation(raw, train, backbone, image_size, cache=cache, device=device)
    found = write_memorisation(out, raw, curated, nearest, baseline, false_positive_rate)
    if logger:
        log_measures(logger, table, found)
    attributes_table(raw, realised(raw, image_size, cache), curated).write_csv(out / "attributes.csv")
    if obedience is not None:
        heard = obedience(data, raw, trainer, cache)
        heard.write_csv(out / OBEDIENCE)
        if logger:
            values = heard.select("attribute", "obedience").drop_nulls().iter_rows()
            logger.log_metrics({f"raw/obedience/{name}": value for name, value in values})


def _check(reference: str, false_positive_rate: float) -> None:
    if reference not in REFERENCES:
        raise InputError(f"audit.pool.reference={reference}: choose from {', '.join(REFERENCES)}.")
    if not 0 <= false_positive_rate <= 1:
        raise InputError(
            f"audit.pool.false_positive_rate={false_positive_rate} is no share: give a value in [0, 1]."
        )


def _vectors(
    features: Files | None,
    backbone: Callable[..., nn.Module],
    image_size: int,
    cache: Path | None,
    device: torch.device,
) -> Callable[[Manifest], np.ndarray]:
    """What gives the features of a set's images: files of the user's own, else the network."""
    if features is not None:
        return read_features(features)
    return partial(embed, backbone=backbone, size=image_size, cache=cache, device=device)


def log_measures(logger: Any, table: pl.DataFrame, copies: Mapping[str, Mapping[str, Any]]) -> None:
    """Give a Lightning Logger the fidelity over all classes and the share of near copies of each set."""
    overall = table.filter(pl.col("label") == ALL).select("set", "metric", "value")
    logger.log_metrics({f"{name}/{metric}": value for name, metric, value in overall.iter_rows()})
    logger.log_metrics(
        {f"{name}/near_copies": counts["share"] for name, counts in copies.items() if counts["images"]}
    )


def save_statistics(features: np.ndarray, folder: Path) -> None:
    """Keep the mean and covariance of a set's features, once a set, for FID outside a study.

    The file is `folder`/<digest of the features>.safetensors; `metrics.frechet.read_statistics` reads it.
    """
    file = folder / f"{hashlib.sha256(features.tobytes()).hexdigest()[:16]}.safetensors"
    if len(features) > 1 and not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{uuid4().hex}.partial"
        write_statistics(unfinished, statistics(features))
        flush(unfinished)  # nobody looks at the content again
        os.replace(unfinished, file)


def fidelity_table(
    real: Manifest,
    sets: Mapping[str, Manifest],
    vectors: Callable[[Manifest], np.ndarray],
    settings: Mapping[str, Any],
) -> pl.DataFrame:
    """One row a set, class (and `all`) and metric, with the columns of `FIDELITY`.

    All sets of a class are cut to the size of the smallest, drawn at random: most measures depend on the number of images, and
    would otherwise favour the larger set. Sets too small for k neighbours in each half are left out.
    """
    least = 2 * (settings["k"] + 1)
    reference, own = vectors(real), {name: vectors(images) for name, images in sets.items()}
    frames = [pl.DataFrame(schema=FIDELITY)]
    labels = (ALL, *real.classes)
    for label in track(labels, "fidelity", transient=True, disable=not get_console().is_terminal):
        here = rows_of(real, label)
        some = {name: rows for name, images in sets.items() if len(rows := rows_of(images, label)) >= least}
        if not some or len(here) < least:
            continue
        count = min(len(rows) for rows in some.values())
        groups = real.table["group_id"].to_numpy()[here]
        warning = too_few(min(count, len(here)), reference.shape[1]) or ""
        for name, rows in some.items():
            drawn = np.sort(np.random.default_rng(settings["seed"]).permutation(rows)[:count])
            values = fidelity(reference[here], own[name][drawn], real_groups=groups, **settings)
            about = {
                "set": pl.lit(name),
                "label": pl.lit(label),
                "images": pl.lit(count, pl.Int64),
                "real_images": pl.lit(len(here), pl.Int64),
                "warning": pl.when(pl.col("metric") == "fid").then(pl.lit(warning)).otherwise(pl.lit("")),
            }
            frames.append(values.with_columns(**about).select(list(FIDELITY)))
    return pl.concat(frames).filter(
        pl.col("metric") != "vendi_real"
    )  # the held-out set of equal size says it better


def rows_of(images: Manifest, label: str) -> np.ndarray:
    """Row numbers of a class's images, or of all."""
    labels = images.table["label"].to_numpy()
    return np.flatnonzero((labels == label) | (label == ALL))


def write_memorisation(
    out: Path,
    raw: Manifest,
    curated: Manifest,
    nearest: pl.DataFrame,
    baseline: pl.DataFrame,
    false_positive_rate: float,
) -> dict[str, dict[str, Any]]:
    """Write memorisation.parquet, a row an image of the raw pool, and memorisation.json, which this returns.

    Args:
        out: receives the files.
        raw, curated: the pool before and after curation.
        nearest, baseline: of the raw pool and of photographs, from `metrics.memorisation`.
        false_positive_rate: of `copies_found`.

    Returns:
        What `copies_found` tells of the raw and the curated pool.
    """
    kept = pl.col("image_id").is_in(curated.table["image_id"].to_list())
    nearest = nearest.with_columns(label=raw.table["label"], kept=kept)
    nearest.write_parquet(out / "memorisation.parquet")
    found = {
        name: copies_found(part["copy_p"], baseline["copy_p"], false_positive_rate)
        for name, part in {RAW: nearest, CURATED: nearest.filter("kept")}.items()
    }
    (out / "memorisation.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def copies_found(pool: pl.Series, photographs: pl.Series, false_positive_rate: float) -> dict[str, Any]:
    """How many images lie nearer to a training photograph than the rate allows, against photographs of other patients.

    Args:
        pool, photographs: `copy_p` of the images and of the photographs among themselves (`metrics.memorisation`).
        false_positive_rate: the threshold on it.

    Returns:
        `images`, `copies`, `share`, `low` and `high` (Wilson's 95 % interval), the same of the photographs as `real_share`,
        `real_low` and `real_high`, and `accused`: whether the pool's whole interval lies above the photographs' interval.
    """
    share, low, high = near_share(pool, false_positive_rate)
    real_share, real_low, real_high = near_share(photographs, false_positive_rate)
    return {
        "images": len(pool),
        "copies": int((pool <= false_positive_rate).sum()),
        "share": share,
        "low": low,
        "high": high,
        "real_share": real_share,
        "real_low": real_low,
        "real_high": real_high,
        "false_positive_rate": false_positive_rate,
        "accused": bool(low is not None and real_high is not None and low > real_high),
    }


def near_share(
    copy_p: pl.Series, false_positive_rate: float
) -> tuple[float | None, float | None, float | None]:
    """Share at or below the rate with Wilson's 95 % interval; nothing of no images."""
    if copy_p.is_empty():
        return None, None, None
    near = int((copy_p <= false_positive_rate).sum())
    interval = binomtest(near, len(copy_p)).proportion_ci(0.95, "wilson")
    return near / len(copy_p), float(interval.low), float(interval.high)


def attributes_table(raw: Manifest, measured: pl.DataFrame, curated: Manifest) -> pl.DataFrame:
    """Images by what was asked for and what came out.

    Returns:
        Columns label, `body_site` and `skin_type` as requested ("" where not), `tone` and `size` as measured (1 to 6; none,
        small, medium, large), `images` and how many of them were `kept`.
    """
    asked = raw.table.select(
        "image_id",
        "label",
        *(
            (pl.col(name).cast(pl.String).fill_null("") if name in raw.table.columns else pl.lit("")).alias(
                name
            )
            for name in ("body_site", "skin_type")
        ),
    )
    area = pl.col("lesion_area_share")
    size = pl.when(area <= 0).then(pl.lit("none")).when(area < 0.05).then(pl.lit("small"))
    came_out = measured.select(
        "image_id", "tone", size=size.when(area < 0.2).then(pl.lit("medium")).otherwise(pl.lit("large"))
    )
    kept = pl.col("image_id").is_in(curated.table["image_id"].to_list())
    cells = ["label", "body_site", "skin_type", "tone", "size"]
    return (
        asked.join(came_out, on="image_id", how="left", validate="1:1")
        .group_by(cells)
        .agg(images=pl.len(), kept=kept.sum())
        .sort(cells)
    )


def print_audit(folder: Path) -> None:
    """What an audit found: fidelity over all classes, a row a set, a sentence a set on memorisation, and obedience."""
    overall = pl.read_csv(folder / "fidelity.csv", schema=FIDELITY).filter(pl.col("label") == ALL)
    metrics = overall["metric"].unique(maintain_order=True).to_list()
    shown = Table(
        "set", "images", *metrics, title="Fidelity, all classes, with 95 % interval", title_justify="left"
    )
    for (name,), rows in overall.group_by("set", maintain_order=True):
        cells = {row["metric"]: _with_interval(row) for row in rows.iter_rows(named=True)}
        shown.add_row(str(name), str(rows["images"][0]), *(cells[metric] for metric in metrics))
    console = Console()
    console.print(shown)
    for warning in overall["warning"].drop_nulls().unique(maintain_order=True):
        console.print(f"[yellow]{escape(warning)}[/yellow]" if warning else "", highlight=False)
    for name, counts in json.loads((folder / "memorisation.json").read_text()).items():
        if counts["images"]:
            console.print(f"{name} pool: {memorisation_sentence(counts)}", highlight=False, soft_wrap=True)
    if (folder / OBEDIENCE).is_file():
        print_obedience(folder)


def _with_interval(row: Mapping[str, Any]) -> str:
    interval = "" if row["low"] is None else f"\n[dim]{row['low']:.3g}–{row['high']:.3g}[/dim]"
    return f"{row['value']:.3g}{interval}"


def memorisation_sentence(counts: Mapping[str, Any]) -> str:
    """What `copies_found` says."""
    verdict = (
        "more than photographs of different patients are: there are copies"
        if counts["accused"]
        else "no sign of copying"
    )
    return (
        f"{counts['copies']} of {counts['images']} images ({counts['share']:.1%}, 95 % interval {counts['low']:.1%} to "
        f"{counts['high']:.1%}) are as near to a training photograph as {counts['real_share']:.1%} ({counts['real_low']:.1%} to "
        f"{counts['real_high']:.1%}) of the photographs are to one of another patient: {verdict}."
    )
