"""Any two folders of images against each other: fidelity, copies and attributes, without a study."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from skinaug.audit.copies import views
from skinaug.audit.pool import (
    HELD_OUT,
    attributes_table,
    copies_found,
    fidelity_table,
    print_audit,
)
from skinaug.errors import InputError, plural
from skinaug.manifest import Manifest
from skinaug.metrics.features import embed
from skinaug.metrics.hashes import match_blocks, pair_blocks, perceptual_hashes
from skinaug.metrics.memorisation import memorisation
from skinaug.metrics.near_copies import Views, confirmed_pairs
from skinaug.metrics.skin import realised
from skinaug.sources.check import Picture
from skinaug.sources.layout import read_images
from skinaug.sources.masks import check_choice
from skinaug.sources.noticed import notice
from skinaug.sources.noticed import sentences as of_noticed
from skinaug.sources.vocabulary import place_on_scale, titles_of, with_scale, with_teller

REAL, SYNTHETIC = "real", "synthetic"
UNSTATED = "not stated"
STATED = ("skin_type", "body_site", "sex", "age")  # what tables tell of images
MEASURED = {"tone": "tone, measured", "size": "lesion, measured"}  # what pixels tell
COPIES = {
    "image_id": pl.String,
    "other_id": pl.String,
    "of": pl.String,
    "hamming": pl.Int64,
    "cosine": pl.Float64,
    "identical": pl.Boolean,
}
COMPARED = {"attribute": pl.String, "value": pl.String, REAL: pl.Int64, SYNTHETIC: pl.Int64}
Images = tuple[Manifest, Sequence[Picture]]  # rows, and what was read of each

console = Console()


def audit_folders(
    backbone: Callable[..., nn.Module],
    image_size: int,
    neighbours: int = 5,
    num_replicates: int = 50,
    max_images: int = 5_000,
    false_positive_rate: float = 0.01,
    seed: int = 0,
    copy_size: int = 48,
    max_hamming: int = 10,
    min_cosine: float = 0.95,
    held_out: float = 0.25,
    min_size_px: int = 32,
    on_bad: str = "fail",
    masks: str = "fail",
    *,
    real: Path,
    synthetic: Path,
    cache: Path | None,
    device: Callable[[], torch.device],
    out: Path,
) -> None:
    """Write what `pool.audit_pool` writes of a pool, of the one set `synthetic`: fidelity.csv, memorisation.parquet,
    memorisation.json and attributes.csv. Besides: copies.csv, pairs of pictures that are one (`COPIES`), `of` a synthetic
    image with a real or another synthetic one; compared.csv, images of both folders by attribute (`COMPARED`); summary.json;
    dropped.csv; and both manifests in real/ and synthetic/.

    Test images of the real folder are left out, with a count. Fidelity is against its training images, beside validation
    images, or images of held-out patients where there are none; copies are looked for in both.

    Args:
        backbone, image_size, neighbours, num_replicates, max_images, false_positive_rate, seed: as in `pool.audit_pool`.
        copy_size, max_hamming, min_cosine: as `copies.find_held_out_copies` has them for its copies.
        held_out: share of the real images that are held out, in [0, 1).
        min_size_px, on_bad, masks: as in `sources.layout.read_images`.
        real, synthetic: the folders.
        cache: file of what was computed of each picture (`blobs`).
        device: tells where the network runs.
        out: receives the files.

    Raises:
        InputError: images that cannot be used, or too few.
    """
    if not 0 <= held_out < 1:
        raise InputError(f"audit.folders.held_out={held_out} is no share below 1: give a value in [0, 1).")
    if on_bad not in ("fail", "drop"):
        raise InputError(f"audit.folders.on_bad={on_bad}: choose fail or drop.")
    check_choice(masks, "audit.folders.masks")
    console.print(f"reading {real} and {synthetic}", highlight=False, markup=False, soft_wrap=True)
    read = {
        kind: read_images(folder, kind, min_size_px, on_bad, masks)
        for kind, folder in ((REAL, real), (SYNTHETIC, synthetic))
    }
    data, photographs, unseen = _without_test(*read[REAL][:2])
    pool, pictures = read[SYNTHETIC][:2]
    least = 2 * (neighbours + 1)
    _refuse_few(data, pool, least)
    data = with_held_out(data, held_out, least, seed)

    def vectors(images: Manifest) -> np.ndarray:
        return embed(images, backbone, image_size, cache=cache, device=device())

    console.print("measuring fidelity and copies", highlight=False)
    settings = {"k": neighbours, "num_replicates": num_replicates, "max_images": max_images, "seed": seed}
    sets = {SYNTHETIC: pool, HELD_OUT: data.split("val")}
    fidelity_table(data.split("train"), sets, vectors, settings).write_csv(out / "fidelity.csv")
    nearest, baseline = memorisation(pool, data, backbone, image_size, cache=cache, device=device())
    nearest.with_columns(label=pool.table["label"], kept=pl.lit(True)).write_parquet(
        out / "memorisation.parquet"
    )
    found = copies_found(nearest["copy_p"], baseline["copy_p"], false_positive_rate)
    (out / "memorisation.json").write_text(json.dumps({SYNTHETIC: found}, indent=2) + "\n")
    copies = find_copies(
        (pool, pictures), (data, photographs), max_hamming, min_cosine,
        lambda both, left, right: views(both, left, right, backbone, copy_size, cache, device),
    )  # fmt: skip
    copies.write_csv(out / "copies.csv")
    console.print("measuring tones and lesions", highlight=False)
    tables = {
        kind: attributes_table(images, realised(images, image_size, cache), images)
        for kind, images in ((REAL, data), (SYNTHETIC, pool))
    }
    tables[SYNTHETIC].write_csv(out / "attributes.csv")
    compared(data, pool, tables[REAL], tables[SYNTHETIC]).write_csv(out / "compared.csv")
    dropped = [part.with_columns(folder=pl.lit(kind)) for kind, (_, _, part) in read.items()]
    pl.concat(dropped).write_csv(out / "dropped.csv")
    for kind, images in ((REAL, data), (SYNTHETIC, pool)):
        (out / kind).mkdir()
        images.write(out / kind)
    noticed = {kind: _noticed(*found) for kind, found in read.items()}
    summary = _summary(data, pool, copies, unseen, dropped) | {"noticed": noticed}
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def _noticed(images: Manifest, pictures: Sequence[Picture], dropped: pl.DataFrame) -> dict[str, Any]:
    """What reading a folder noticed."""
    listed = pl.concat([images.table, dropped.select("path")], how="diagonal")
    return notice(images.root, [listed], images.table["path"].to_list(), pictures)


def _without_test(data: Manifest, pictures: Sequence[Picture]) -> tuple[Manifest, list[Picture], int]:
    """The images but those of the test split, and the number of those."""
    judged = (data.table["split"] != "test").to_list()
    kept = [picture for picture, own in zip(pictures, judged, strict=True) if own]
    return data.where(pl.col("split") != "test"), kept, len(pictures) - len(kept)


def _refuse_few(data: Manifest, pool: Manifest, least: int) -> None:
    for words, images in {"real folder": data.split("train"), "synthetic folder": pool}.items():
        if len(images) < least:
            raise InputError(
                f"The {words} has {len(images)} images to compare, and fidelity takes {least} or more of each. Add images, or lower "
                "audit.pool.neighbours."
            )
    if data.table["group_id"].n_unique() < least:
        raise InputError(
            f"The real images are of {data.table['group_id'].n_unique()} patients, and copies are told by how near photographs of "
            f"{least} patients or more come to each other. Add patients."
        )


def with_held_out(data: Manifest, share: float, least: int, seed: int) -> Manifest:
    """The same images, those of some patients in the split val, where it is empty and the share is `least` images or more on
    either side. The patients are drawn by the seed."""
    if len(data.split("val")):
        return data
    patients = data.table["group_id"].unique(maintain_order=True).sort().shuffle(seed)
    sizes = data.table.group_by("group_id").len()
    drawn = pl.DataFrame({"group_id": patients}).join(sizes, on="group_id", maintain_order="left")
    chosen = drawn.filter(pl.col("len").cum_sum() <= share * len(data))
    count = int(chosen["len"].sum())
    if min(count, len(data) - count) < least:
        return data
    split = pl.when(pl.col("group_id").is_in(chosen["group_id"].to_list())).then(pl.lit("val"))
    return data.with_table(data.table.with_columns(split=split.otherwise(pl.lit("train"))))


def find_copies(
    pool: Images,
    data: Images,
    max_hamming: int,
    min_cosine: float,
    features: Callable[[Manifest, pl.Series, pl.Series], Views],
) -> pl.DataFrame:
    """Pairs of pictures that are one, saved anew, scaled or mirrored, with the columns of `COPIES`: each synthetic image with the
    real ones, and with the other synthetic ones. The most alike come first.

    Args:
        max_hamming: bits of 64 in which the perceptual hashes of a pair differ at most.
        min_cosine: of the features, that confirm it.
        features: of images of a manifest, by two columns of ids (`copies.views`).
    """
    (images, pictures), (photographs, originals) = pool, data
    (own, turned), (real, real_turned) = (
        perceptual_hashes(np.stack([picture.thumbnail for picture in some])) for some in (pictures, originals)
    )
    classes = tuple(sorted({*images.classes, *photographs.classes}))
    both = Manifest.concat([Manifest(some.table, some.root, classes) for some in (photographs, images)])
    rows = []
    for kind, blocks, others, read in (
        (REAL, partial(match_blocks, own, real, real_turned, max_hamming), photographs, originals),
        (SYNTHETIC, partial(pair_blocks, own, turned, max_hamming), images, pictures),
    ):
        ids, other_ids = images.table["image_id"], others.table["image_id"]
        pairs, distances, cosines = confirmed_pairs(
            blocks, partial(_of_rows, partial(features, both), ids, other_ids), min_cosine
        )
        same = [pictures[i].pixels_sha256 == read[j].pixels_sha256 for i, j in pairs]
        columns = (ids[pairs[:, 0]], other_ids[pairs[:, 1]], [kind] * len(pairs), distances, cosines, same)
        rows.append(pl.DataFrame(dict(zip(COPIES, columns, strict=True)), schema_overrides=COPIES))
    return pl.concat(rows).sort("of", "cosine", "image_id", descending=[False, True, False])


def _of_rows(
    features: Callable[[pl.Series, pl.Series], Views],
    ids: pl.Series,
    other_ids: pl.Series,
    rows: np.ndarray,
    others: np.ndarray,
) -> Views:
    """Features by row numbers, of what gives them by ids."""
    return features(ids[rows], other_ids[others])


def compared(data: Manifest, pool: Manifest, of_data: pl.DataFrame, of_pool: pl.DataFrame) -> pl.DataFrame:
    """Images of both folders by the values of each attribute that a table tells, and by what was measured.

    of_data, of_pool: `pool.attributes_table` of each.
    """
    counts = []
    for name in STATED:
        if any(name in images.table.columns for images in (data, pool)):
            counts.append(_counted(name, _stated(data, name), _stated(pool, name)))
    for name, words in MEASURED.items():
        counts.append(_counted(words, *(_measured(table, name) for table in (of_data, of_pool))))
    return pl.concat([pl.DataFrame(schema=COMPARED), *counts])


def _stated(images: Manifest, name: str) -> pl.DataFrame:
    """Columns value and images; ages in decades."""
    if name not in images.table.columns:
        return pl.DataFrame({"value": [UNSTATED], "images": [len(images)]})
    value = pl.col(name)
    if name == "age":
        decade = value.cast(pl.Float64).floordiv(10).cast(pl.Int64) * 10
        value = pl.when(value.is_not_null()).then(pl.format("{} to {}", decade, decade + 9))
    if name == "skin_type":
        value = with_teller(images.table)
    value = value.cast(pl.String).fill_null(UNSTATED)
    return images.table.group_by(value=value).agg(images=pl.len())


def _measured(table: pl.DataFrame, name: str) -> pl.DataFrame:
    return table.group_by(value=pl.col(name).cast(pl.String)).agg(pl.col("images").sum())


def _counted(attribute: str, real: pl.DataFrame, synthetic: pl.DataFrame) -> pl.DataFrame:
    both = real.rename({"images": REAL}).join(
        synthetic.rename({"images": SYNTHETIC}), on="value", how="full", coalesce=True
    )
    counts = (pl.col(kind).fill_null(0).cast(pl.Int64) for kind in (REAL, SYNTHETIC))
    rows = both.select(pl.lit(attribute).alias("attribute"), "value", *counts).rows()
    rows = sorted(rows, key=lambda row: (row[1] == UNSTATED, place_on_scale(row[1])))
    return pl.DataFrame(rows, schema=COMPARED, orient="row")


def _summary(
    data: Manifest, pool: Manifest, copies: pl.DataFrame, unseen: int, dropped: Sequence[pl.DataFrame]
) -> dict[str, Any]:
    """What the audit looked at, and how many copies it found."""
    of_real, of_synthetic = (copies.filter(pl.col("of") == kind) for kind in (REAL, SYNTHETIC))
    repeated = pl.concat([of_synthetic["image_id"], of_synthetic["other_id"]]).n_unique()
    classes = {kind: list(images.classes) for kind, images in ((REAL, data), (SYNTHETIC, pool))}
    return {
        "real": {
            "folder": str(data.root),
            "images": len(data),
            "patients": data.table["group_id"].n_unique(),
        },
        "synthetic": {"folder": str(pool.root), "images": len(pool)},
        "classes": classes,
        "scales": {
            kind: titles_of(images.table["skin_type"]) if "skin_type" in images.table.columns else ""
            for kind, images in ((REAL, data), (SYNTHETIC, pool))
        },
        "reference_images": len(data.split("train")),
        "held_out_images": len(data.split("val")),
        "test_images_left_out": unseen,
        "dropped": sum(part.height for part in dropped),
        "patients_known": bool((data.table["group_id"] != data.table["image_id"]).any()),
        "copies_of_real": of_real["image_id"].n_unique(),
        "identical_to_real": of_real.filter("identical")["image_id"].n_unique(),
        "repeated_in_synthetic": repeated,
        "identical_in_synthetic": of_synthetic.filter("identical").height,
    }


def sentences(summary: dict[str, Any]) -> list[str]:
    """What `summary.json` says, in words."""
    pool = summary[SYNTHETIC]
    told = [
        f"{pool['images']:,} synthetic images against {summary['reference_images']:,} real ones; {summary['held_out_images']:,} real "
        "images of other patients stand beside them."
    ]
    if not summary["held_out_images"]:
        told[0] = (
            f"{pool['images']:,} synthetic images against {summary['reference_images']:,} real ones, which are too few to hold some "
            "out: what a perfect generator would reach is not known."
        )
    if not summary["patients_known"]:
        told.append(
            "No patients are told: each real image counts as a patient of its own, and where patients have several, "
            "intervals are too narrow and few copies are told."
        )
    if summary["test_images_left_out"]:
        told.append(f"{summary['test_images_left_out']:,} real images of the test split are left out.")
    if summary["dropped"]:
        told.append(
            f"{plural(summary['dropped'], 'image')} left out that cannot be used; dropped.csv tells why."
        )
    for kind, noticed in summary.get("noticed", {}).items():
        told += [f"{kind.capitalize()} folder: {line}" for line in of_noticed(noticed)]
    real, synthetic = (summary["scales"][kind] for kind in (REAL, SYNTHETIC))
    if real and synthetic and real != synthetic:
        told.append(
            f"Skin types of the real images stand on the scale {real}, those of the synthetic ones on {synthetic}: they are counted apart."
        )
    ours, theirs = (set(summary["classes"][kind]) for kind in (REAL, SYNTHETIC))
    if ours != theirs:
        apart = ", ".join(sorted(ours ^ theirs))
        told.append(f"Classes that only one folder has are compared in the whole alone: {apart}.")
    told.append(
        f"{summary['copies_of_real']:,} synthetic images are one picture with a real image, saved anew, scaled or mirrored "
        f"({summary['identical_to_real']:,} of them pixel by pixel)."
    )
    told.append(
        f"{summary['repeated_in_synthetic']:,} synthetic images are one picture with another synthetic one "
        f"({summary['identical_in_synthetic']:,} pairs pixel by pixel)."
    )
    return told


def print_folders(folder: Path) -> None:
    """What the audit of two folders found."""
    print_audit(folder)
    for text in sentences(json.loads((folder / "summary.json").read_text())):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    table = Table(
        "attribute", "value", "real", "synthetic", title="Images by attribute", title_justify="left"
    )
    last = ""
    for row in pl.read_csv(folder / "compared.csv", schema=COMPARED).iter_rows(named=True):
        first = with_scale(row["attribute"], [row["value"]]) if row["attribute"] != last else ""
        table.add_row(escape(first), escape(row["value"]), str(row[REAL]), str(row[SYNTHETIC]))
        last = row["attribute"]
    console.print(table)
