"""The dataset stage: a source's images, each opened once, without copies, in splits that share no patient."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skinaug.dataset.across_splits import refuse_patients
from skinaug.dataset.alike import refuse_alike
from skinaug.dataset.folds import check_folds, deal_folds, without_own_splits
from skinaug.dataset.joined import warnings
from skinaug.dataset.rows import one_row_a_file
from skinaug.dataset.several import across_sets, complete_splits_of_sets, with_shared_names
from skinaug.dataset.small_classes import without_small_classes
from skinaug.dataset.splits import split_fractions
from skinaug.errors import InputError, plural
from skinaug.labels import class_named
from skinaug.manifest import SPLITS, Manifest
from skinaug.sources.check import usable_images
from skinaug.sources.labels import labelled
from skinaug.sources.left_out import taken_and_left
from skinaug.sources.masks import check_choice
from skinaug.sources.noticed import notice, tell
from skinaug.sources.patients import advice, sentence, untold, without_patient
from skinaug.sources.root import check_root, image_folder
from skinaug.sources.sources import Source
from skinaug.sources.told import telling

if TYPE_CHECKING:
    from skinaug.dataset.duplicates import Duplicates

RESERVED = {  # columns that other stages add, or that training obeys
    *(
        "row",
        "line",
        "reason",
        "phash",
        "mirrored",
        "prediction",
        "file_name",
        "prompt",
        "prompt_set",
        "seed",
    ),
    *("guidance_scale", "num_inference_steps", "scheduler", "weights", "parents", "exposure"),
    *("draw_share", "draw_phase", "loss_weight"),
}


def build_dataset(
    source: Source,
    root: str | None,
    out: Path,
    classes: Sequence[Any] | None = None,
    labels: Mapping[Any, Any] | None = None,
    min_patients: int | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.25,
    duplicates: Duplicates | None = None,
    min_size_px: int = 32,
    on_bad: str = "fail",
    masks: str = "fail",
    folds: int | None = None,
    fold: int | None = None,
    reserve: float | None = None,
    seed: int = 0,
) -> None:
    """Make a manifest of a source's images in `out/manifest.parquet`, with `summary.json` (`summarise`, and `told`: what the source
    had to tell of its tables, in sentences; `without_patient`: `patients.untold`), `dropped.csv`, `duplicates.csv`
    and `hashes.parquet` (image_id, `phash`, `mirrored`: `metrics.hashes`), by which an audit finds near-copies.

    Args:
        source: lists the images.
        root: the folder of the images; None: the source renders them into `out`.
        out: the artifact's work folder.
        classes: labels to use, the others are left out; None: all. Numbers and truth values stand for labels that are written so.
        labels: the data's names of classes to others; images of labels that it neither maps nor maps to, and that `classes` does not
            name, are left out with a count. None: all keep their names.
        min_patients: the smallest class to keep: one of fewer patients, or without any in one of the source's own splits, is left
            out; None: every class.
        val_fraction, test_fraction: shares of the images, where the source has no splits of its own.
        duplicates: what to do about pictures that occur more than once; None: nothing.
        min_size_px: the shortest side that an image may have, in pixels.
        on_bad: unreadable, truncated, missing or tiny images, and rows without a label: "fail" or "drop".
        masks: pictures that are masks (`sources.masks`): "fail", "drop" or "keep".
        folds: into how many folds the patients are dealt, each of which is the test of one data set (`folds.deal_folds`); the source's
            own splits and `test_fraction` do not count then. None: no folds.
        fold: the number of the one that is the test here, from 0; None with a reserve: all are.
        reserve: share of the images of patients who are in no fold (`folds.deal_folds`).
        seed: of the splits.

    Raises:
        InputError: no images, bad images, a class with too few patients, groups across the source's splits.
    """
    fractions = split_fractions(val_fraction, 0.0 if folds else test_fraction)
    if fold is not None or reserve is None:
        check_folds(folds, fold, val_fraction, reserve)
    check_choice(masks, "dataset.masks")
    folder = check_root(source, root, "dataset") or out
    table, listed, left, dropped, told = read_rows(source, folder, classes, labels, folds, on_bad)
    alone = without_patient(listed)
    table, again = one_row_a_file(table, duplicates.conflicts if duplicates is not None else on_bad)
    images = image_folder(source, folder, table["path"].to_list(), out)
    table, pictures, bad = usable_images(images, table, min_size_px, on_bad, masks)
    of_root = folder if source.needs_root and images == folder else None
    noticed = notice(of_root, [listed, left], table["path"].to_list(), pictures)
    dropped, whole, folder = pl.concat([dropped, again, bad]), table, images
    from skinaug.metrics.hashes import hash_table  # SciPy: half a second that looking at the root can spare

    hashes = hash_table(table, [picture.thumbnail for picture in pictures])
    links, named = None, table.select("image_id", "group_id")
    large: list[dict[str, Any]] = []
    if duplicates is not None:
        from skinaug.dataset.duplicates import without_copies  # SciPy, as above

        table, links, copies, large = without_copies(folder, table, pictures, duplicates)
        dropped = pl.concat([dropped, copies])
        for line in warnings(
            large
        ):  # before the splits, which one group of all patients would make impossible
            Console().print(line, highlight=False, markup=False, soft_wrap=True)
    if "split" in table.columns:
        refuse_patients(_join_lesions(table.drop("group_id").join(named, on="image_id")))
    table = _join_lesions(table)
    table, small, small_classes = without_small_classes(table, min_patients)
    dropped = pl.concat([dropped, small])
    if folds is not None:
        table = deal_folds(table, folds, fold, val_fraction, seed, reserve)
    else:
        table = complete_splits_of_sets(table, fractions, seed)
    table = table.sort("image_id")
    manifest = Manifest(
        table, folder, tuple(sorted(table["label"].unique())), source.licence, source.citation
    )
    manifest.write(out)
    hashes.join(table, on="image_id", how="semi").write_parquet(out / "hashes.parquet")
    dropped.write_csv(out / "dropped.csv")
    if links is not None:
        links.write_csv(out / "duplicates.csv")
    summary = summarise(manifest, dropped, links) | across_sets(whole, links, dropped)
    without = untold(table, alone)
    if said := sentence(without):
        told.append(" ".join([said, *advice(source)]))
    summary |= {"small_classes": small_classes, "told": told, "joined_groups": large, "noticed": noticed}
    summary["without_patient"] = without
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    show(summary)
    tell(noticed)


class Rows(NamedTuple):
    """What a source lists.

    Attributes:
        table: the rows of the data's classes.
        listed: all rows of the source.
        left: `path, reason` of those that it leaves out.
        dropped: the same of these, of rows without a label and of those of other classes.
        told: what it had to tell of its tables, in sentences.
    """

    table: pl.DataFrame
    listed: pl.DataFrame
    left: pl.DataFrame
    dropped: pl.DataFrame
    told: list[str]


def read_rows(
    source: Source,
    folder: Path,
    classes: Sequence[Any] | None,
    labels: Mapping[Any, Any] | None,
    folds: int | None,
    on_bad: str,
) -> Rows:
    """What a source lists, before any picture is opened; arguments are those of `build_dataset`.

    Raises:
        InputError: what `build_dataset` refuses of tables, folders and classes.
    """
    if on_bad not in ("fail", "drop"):
        raise InputError(f"dataset.on_bad={on_bad}: choose fail or drop.")
    with telling() as told:
        listed, left = _load(source, folder)
        table, without_label = labelled(listed, on_bad)
        table, nameless = with_shared_names(_with_ids(table), labels, classes)
    if folds is not None:
        table, ignored = without_own_splits(table)
        told += ignored
    table = _choose_classes(table, classes)
    refuse_alike(table["label"])
    return Rows(table, listed, left, pl.concat([left, without_label, nameless]), told)


def summarise(manifest: Manifest, dropped: pl.DataFrame, links: pl.DataFrame | None) -> dict[str, Any]:
    """Images and patients by class and split; how many were dropped and why; pairs of near-copies."""
    counts = manifest.table.group_by("label", "split").agg(
        images=pl.len(), patients=pl.col("group_id").n_unique()
    )
    cells = {(label, split): {"images": i, "patients": p} for label, split, i, p in counts.iter_rows()}
    empty = {"images": 0, "patients": 0}
    reasons = dropped.group_by(pl.col("reason").str.split(":").list.first()).len().sort("reason")
    splits = manifest.table.group_by("split").agg(images=pl.len(), patients=pl.col("group_id").n_unique())
    by_split = {split: {"images": i, "patients": p} for split, i, p in splits.iter_rows()}
    return {
        "images": len(manifest),
        "patients": manifest.table["group_id"].n_unique(),
        "splits": {split: by_split.get(split, empty) for split in SPLITS},
        "classes": {
            label: {split: cells.get((label, split), empty) for split in SPLITS} for label in manifest.classes
        },
        "dropped": dict(reasons.iter_rows()),
        "near_copies": None if links is None else len(links),
        "near_copies_across_patients": None if links is None else int(links["across_groups"].sum()),
    }


def show(summary: dict[str, Any]) -> None:
    """Print classes x splits as images / patients, and what was dropped."""
    table = Table("class", *SPLITS, title="images / patients")
    for label, splits in summary["classes"].items():
        table.add_row(escape(label), *(f"{cell['images']} / {cell['patients']}" for cell in splits.values()))
    table.add_section()
    table.add_row("all", *(f"{cell['images']} / {cell['patients']}" for cell in summary["splits"].values()))
    console = Console()
    console.print(table)
    for line in summary["told"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for reason, count in summary["dropped"].items():
        console.print(f"dropped {count}: {reason}", highlight=False, markup=False)
    for label, count in summary["small_classes"].items():
        text = (
            f"left out {label}: {plural(count['images'], 'image')} of {plural(count['patients'], 'patient')}"
        )
        console.print(f"{text}, too few by dataset.min_patients", highlight=False, markup=False)
    if summary["near_copies"]:
        joined = summary["near_copies_across_patients"]
        text = (
            f"{summary['near_copies']} pairs of near-copies; {joined} joined the groups of different patients"
        )
        console.print(text, highlight=False)
    if summary.get("copies_across_sets") or summary.get("near_copies_across_sets"):
        text = f"across sets: {summary['copies_across_sets']} copies dropped, {summary['near_copies_across_sets']} pairs of near-copies"
        console.print(text, highlight=False)


def _load(source: Source, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A source's rows; and `path, reason` of those that it leaves out."""
    table, left = taken_and_left(source.load(folder))
    if table.is_empty():
        reasons = left.group_by("reason").len().sort("len", descending=True)
        why = "".join(f"\nLeft out {count}: {reason}." for reason, count in reasons.head(5).iter_rows())
        raise InputError(
            f"{type(source).__name__} found no images under {folder}. Check dataset.root=<folder>.{why}"
        )
    if taken := sorted(RESERVED & set(table.columns)):
        raise InputError(
            f"The data have the columns {', '.join(taken)}, names that other stages' columns have. Map them to others in "
            f"dataset.source.columns, such as own_{taken[0]}, or leave them out."
        )
    return table, left


def _with_ids(table: pl.DataFrame) -> pl.DataFrame:
    """`image_id` is the path and `group_id` the lesion, else the image, where the source has none."""
    names = ("image_id", "group_id", "lesion_id")
    absent = {name: pl.lit(None, pl.String) for name in names if name not in table.columns}
    table = table.with_columns(**absent).with_columns(pl.col("path", "label", *names).cast(pl.String))
    table = table.with_columns(image_id=pl.coalesce("image_id", "path"), source=pl.lit("real"))
    table = table.with_columns(group_id=pl.coalesce("group_id", "lesion_id", "image_id"))
    return table.drop("lesion_id") if table["lesion_id"].is_null().all() else table


def _join_lesions(table: pl.DataFrame) -> pl.DataFrame:
    """Groups that share a lesion become one: a patient who was registered twice must not be in two splits."""
    if "lesion_id" not in table.columns:
        return table
    first = pl.col("row").first().over("lesion_id")
    links = table.with_row_index("row").filter(pl.col("lesion_id").is_not_null()).with_columns(first=first)
    if links.group_by("lesion_id").agg(pl.col("group_id").n_unique())["group_id"].max() in (None, 1):
        return table
    from skinaug.dataset.duplicates import merge_groups  # SciPy, as above

    groups = merge_groups(table["group_id"].to_list(), links.select("row", "first").to_numpy().astype(int))
    return table.with_columns(group_id=pl.Series(groups, dtype=pl.String))


def _choose_classes(table: pl.DataFrame, classes: Sequence[Any] | None) -> pl.DataFrame:
    if classes is None:
        return table
    known = sorted(table["label"].unique())
    classes = [class_named(name, known) for name in classes]
    unknown = [name for name in classes if name not in known]
    if unknown or not classes:
        raise InputError(
            f"dataset.classes has {', '.join(unknown) or 'no class'}; the data has {', '.join(known)}."
        )
    return table.filter(pl.col("label").is_in(classes))
