"""A further test set: photographs from elsewhere, checked as the data are and kept apart from what classifiers learn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skinaug.errors import InputError, listing, plural
from skinaug.labels import by_class, class_named
from skinaug.leaks.lineage import COPIES
from skinaug.manifest import Manifest
from skinaug.metrics.hashes import hash_table
from skinaug.sources.check import Picture, usable_images
from skinaug.sources.labels import labelled
from skinaug.sources.left_out import taken_and_left
from skinaug.sources.masks import check_choice
from skinaug.sources.noticed import notice, sentences
from skinaug.sources.patients import sentence, untold, without_patient
from skinaug.sources.root import check_root, image_folder
from skinaug.sources.sources import Source
from skinaug.sources.told import telling
from skinaug.sources.vocabulary import TELLER

NAMES = ("image_id", "group_id", "lesion_id")
CARRIED = (
    "path",
    "label",
    *NAMES,
    "body_site",
    "skin_type",
    TELLER,
    "age",
    "sex",
)  # columns of a source that are kept
SUMMARY, HASHES = "summary.json", "hashes.parquet"
LEARNED = ("train", "val")  # splits that classifiers learn from or are chosen by
FindCopies = Callable[..., None]  # `audit.copies.find_held_out_copies` with its settings


def take_test_set(
    source: Source,
    root: str | None,
    labels: Mapping[str, str] | None,
    patients: str,
    min_size_px: int,
    on_bad: str,
    on_shared: str,
    masks: str = "fail",
    *,
    name: str,
    data: Manifest,
    hashes: pl.DataFrame,
    find_copies: FindCopies,
    out: Path,
) -> None:
    """Write out/manifest.parquet of a further test set, all rows in the split test, whose photographs stay where they are.

    Beside it lie dropped.csv (`path, reason`), copies.parquet (near-copies between it and training and validation photographs:
    looked for, and none left), hashes.parquet as in `dataset.build_dataset`, and summary.json: `images`, `patients`, `classes`
    (images and patients of each), `lacking` (the data's classes without an image), `left_out` (images of each foreign label),
    `dropped` (images by reason), `in_own_test` (photographs that the data's own test split has too, or whose patient it has),
    `noticed` (`sources.noticed.notice`), `without_patient` (`sources.patients.untold`) and `told` (what the source has to tell, and the
    last six in sentences).

    Args:
        source, root: as in `dataset.build_dataset`.
        labels: the set's names of classes to the data's; None: they are the same. Images of other classes are left out.
        patients: "shared": one `group_id` or `lesion_id` means one patient or lesion, here and in the data; "own": the set
            numbers them by itself.
        min_size_px, on_bad: as in `dataset.build_dataset`.
        on_shared: photographs or patients that classifiers learn from: "fail" or "drop".
        masks: as in `dataset.build_dataset`.
        name: of the set; stands in front of its image ids.
        data: the data set with all splits; hashes: of its images.
        find_copies: looks for near-copies between two sets of photographs.
        out: receives the files.

    Raises:
        InputError: no images, none of a known class, bad images, or photographs or patients that classifiers learn from.
    """
    folder = check_root(source, root, f"test.{name}") or out
    with telling() as said:
        listed, left_out = taken_and_left(source.load(folder))
        alone = without_patient(listed)
        table, without_label = labelled(listed, on_bad)
        table, foreign = known_images(table, name, labels, data.classes)
    table = _with_ids(table, name, patients)
    images = image_folder(source, folder, table["path"].to_list(), out)
    table, pictures, bad = usable_images(images, table, min_size_px, on_bad, masks)
    of_root = folder if source.needs_root and images == folder else None
    noticed = notice(of_root, [listed, left_out], table["path"].to_list(), pictures)
    folder = images
    table, pictures, twice = _without_copies(table, pictures)
    manifest = Manifest(
        table.with_columns(split=pl.lit("test"), source=pl.lit("real")),
        folder,
        data.classes,
        source.licence,
        source.citation,
    )
    own_hashes = hash_table(manifest.table, [picture.thumbnail for picture in pictures])
    copies = _copies(manifest, own_hashes, data, hashes, find_copies, out)
    shared = _shared(manifest, data, copies)
    learned = shared.filter(pl.col("split").is_in(LEARNED))
    if on_shared == "fail" or learned["image_id"].n_unique() == len(manifest):
        _refuse_shared(learned, name)
    left = manifest.where(~pl.col("image_id").is_in(learned["image_id"].to_list()))
    gone = manifest.table.join(learned.unique("image_id", maintain_order=True), on="image_id")
    dropped = pl.concat(
        [
            left_out,
            without_label,
            bad,
            twice,
            gone.select("path", reason=pl.format("classifiers learn from it: {}", "what")),
        ]
    )
    own_test = shared.filter(pl.col("split") == "test").join(left.table, on="image_id", how="semi")
    left.write(out)
    own_hashes.join(left.table, on="image_id", how="semi").write_parquet(out / HASHES)
    copies.join(left.table, left_on="other_id", right_on="image_id", how="semi").filter(
        pl.col("split").is_in(LEARNED)
    ).write_parquet(out / COPIES)
    dropped.write_csv(out / "dropped.csv")
    summary = summarise(left, foreign, dropped) | {
        "in_own_test": own_test["image_id"].n_unique(),
        "noticed": noticed,
        "without_patient": untold(left.table, alone),
    }
    summary["told"] = [*said, *told(summary)]
    (out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    show(name, summary)


def known_images(
    table: pl.DataFrame, name: str, labels: Mapping[str, str] | None, classes: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """A source's rows of classes that the data have, under the data's names; and how many have each other label.

    Raises:
        InputError: no images; `labels` names what the set or the data lack; or no image is of a known class.
    """
    if table.is_empty():
        raise InputError(f"The test set {name} has no images. Check test.{name}.root=<folder>.")
    found = sorted(table["label"].unique())
    labels = {theirs: class_named(ours, classes) for theirs, ours in by_class(labels, found).items()}
    if absent := [label for label in labels if label not in found]:
        raise InputError(
            f"test.{name}.labels maps {', '.join(absent)}, which no image of the set is labelled; its labels are "
            f"{', '.join(found)}."
        )
    if unknown := [f"{theirs}: {ours}" for theirs, ours in labels.items() if ours not in classes]:
        raise InputError(
            f"test.{name}.labels maps to classes that the data lack: {', '.join(unknown)}. The data have {', '.join(classes)}."
        )
    table = table.with_columns(pl.col("label").replace(labels))
    known = pl.col("label").is_in(list(classes))
    if not (kept := table.filter(known)).height:
        raise InputError(
            f"No image of the test set {name} is of a class of the data, {', '.join(classes)}; its labels are {', '.join(found)}.\n"
            f"Map names with test.{name}.labels={{theirs: ours}}."
        )
    return kept, dict(table.filter(~known)["label"].value_counts().sort("label").iter_rows())


def check_settings(name: str, settings: Any) -> None:
    """Refuse settings that cannot work; imports no torch.

    Raises InputError.
    """
    if not isinstance(settings, Mapping) or "source" not in settings:
        raise InputError(
            f"test.{name} is no test set: a file conf/test/<name>.yaml names its set, as in\n"
            "  defaults: [folder@hospital_b]\n  hospital_b:\n    root: /path/to/photographs"
        )
    if not name.replace("_", "a").replace("-", "a").isalnum():
        raise InputError(f"test.{name}: name a test set in letters, digits, - and _ alone.")
    words = {"patients": ("shared", "own"), "on_bad": ("fail", "drop"), "on_shared": ("fail", "drop")}
    for option, allowed in words.items():
        if settings.get(option) not in allowed:
            raise InputError(f"test.{name}.{option}={settings.get(option)}: choose {' or '.join(allowed)}.")
    check_choice(settings.get("masks", "fail"), f"test.{name}.masks")
    if not isinstance(settings.get("labels") or {}, Mapping):
        raise InputError(
            f"test.{name}.labels={settings['labels']}: map the set's names of classes to the data's, as in "
            f"test.{name}.labels={{theirs: ours}}, or leave it null."
        )


def summarise(manifest: Manifest, foreign: Mapping[str, int], dropped: pl.DataFrame) -> dict[str, Any]:
    """Images and patients of the set and of its classes, and what was left out or dropped."""
    counts = manifest.table.group_by("label").agg(images=pl.len(), patients=pl.col("group_id").n_unique())
    classes = {label: {"images": i, "patients": p} for label, i, p in counts.sort("label").iter_rows()}
    reasons = dropped.group_by(pl.col("reason").str.split(":").list.first()).len().sort("reason")
    return {
        "images": len(manifest),
        "patients": manifest.table["group_id"].n_unique(),
        "classes": classes,
        "lacking": [label for label in manifest.classes if label not in classes],
        "left_out": dict(foreign),
        "dropped": dict(reasons.iter_rows()),
    }


def show(name: str, summary: Mapping[str, Any]) -> None:
    """Print the classes as images / patients, and what is missing from them."""
    table = Table("class", "images / patients", title=f"test set {escape(name)}", title_justify="left")
    for label, cell in {**summary["classes"], "all": summary}.items():
        table.add_row(escape(label), f"{cell['images']} / {cell['patients']}")
    console = Console()
    console.print(table)
    for line in summary["told"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def told(summary: Mapping[str, Any]) -> list[str]:
    """In sentences, what a set lacks and what was left out of it."""
    lines = []
    if summary["lacking"]:
        lines.append(f"No image of {', '.join(summary['lacking'])}: scores are those of the other classes.")
    if summary["left_out"]:
        counts = ", ".join(f"{label} {count:,}" for label, count in summary["left_out"].items())
        lines.append(f"Left out, of no class of the data: {counts}.")
    lines += [f"Dropped {count:,}: {reason}." for reason, count in summary["dropped"].items()]
    if summary["in_own_test"]:
        lines.append(
            f"Of the own test set, or with patients of it: {plural(summary['in_own_test'], 'photograph')}."
        )
    if said := sentence(summary["without_patient"]):
        lines.append(f"{said} Intervals are too narrow where patients have several.")
    return lines + sentences(summary["noticed"])


def _with_ids(table: pl.DataFrame, name: str, patients: str) -> pl.DataFrame:
    """The rows with the columns of a manifest that a source may lack; ids and, where they are the set's own, patients have its
    name in front."""
    absent = {column: pl.lit(None, pl.String) for column in NAMES if column not in table.columns}
    table = table.with_columns(**absent)
    table = table.select(column for column in CARRIED if column in table.columns)
    table = table.with_columns(pl.col("label", *NAMES).cast(pl.String))
    inside = [pl.format("{}/{}", pl.lit(name), column).alias(column) for column in NAMES[1:]]
    table = table.with_columns(
        *(inside if patients == "own" else ()),
        image_id=pl.format("{}/{}", pl.lit(name), pl.coalesce("image_id", "path")),
    )
    table = table.with_columns(group_id=pl.coalesce("group_id", "lesion_id", "image_id"))
    return table.drop("lesion_id") if table["lesion_id"].is_null().all() else table


def _without_copies(
    table: pl.DataFrame, pictures: Sequence[Picture]
) -> tuple[pl.DataFrame, list[Picture], pl.DataFrame]:
    """One row a picture: of equal pixels with one label the first stays, of those with different labels none; the rows, what was
    read of them, and `path, reason` of the others."""
    told = table.with_columns(pixels=pl.Series([picture.pixels_sha256 for picture in pictures]))
    labels = pl.col("label").n_unique().over("pixels")
    reason = (
        pl.when(labels > 1)
        .then(pl.lit("same picture with different labels"))
        .when(~pl.col("pixels").is_first_distinct())
        .then(pl.lit("copy of another picture of the set"))
    )
    reasons = told.select("path", reason=reason)
    keep = reasons["reason"].is_null()
    if not keep.any():
        raise InputError(
            "Every picture of the test set is there again under another label: correct the labels."
        )
    kept = [picture for picture, stays in zip(pictures, keep, strict=True) if stays]
    return table.filter(keep), kept, reasons.filter(~keep)


def _copies(
    manifest: Manifest,
    own_hashes: pl.DataFrame,
    data: Manifest,
    hashes: pl.DataFrame,
    find_copies: FindCopies,
    out: Path,
) -> pl.DataFrame:
    """Near-copies between the data, whatever their split, and the set: image_id (the data's), `split`, other_id (the set's),
    other_split, hamming, cosine."""
    rows = Manifest.concat(  # patients may be in both, which no manifest of several splits allows
        [
            part.with_table(part.table.with_columns(group_id=pl.col("image_id"), split=pl.lit(split)))
            for part, split in ((data, "train"), (manifest, "test"))
        ]
    )
    find_copies(manifest=rows, hashes=pl.concat([hashes.select(own_hashes.columns), own_hashes]), out=out)
    return pl.read_parquet(out / COPIES).join(data.table.select("image_id", "split"), on="image_id")


def _shared(manifest: Manifest, data: Manifest, copies: pl.DataFrame) -> pl.DataFrame:
    """What the data has of the set: image_id (the set's), `split` of the data, and `what` it is there; a row a pair."""
    pairs = [copies.select("split", image_id="other_id", what=pl.format("is {}", "image_id"))]
    for column, words in {
        "sha256": "is {}",
        "group_id": "is of patient {}",
        "lesion_id": "shows lesion {}",
    }.items():
        if column in manifest.table.columns and column in data.table.columns:
            known = data.table.select(
                pl.col(column).cast(pl.String),
                "split",
                what=pl.format(words, "image_id" if column == "sha256" else column),
            )
            known = known.unique([column, "split"], maintain_order=True)
            found = manifest.table.select("image_id", column).join(known, on=column)
            pairs.append(found.select("split", "image_id", "what"))
    return pl.concat(pairs)


def _refuse_shared(learned: pl.DataFrame, name: str) -> None:
    first = learned.unique("image_id", maintain_order=True)
    if first.height:
        lines = [f"{image} {what} ({split})" for split, image, what in first.iter_rows()]
        raise InputError(
            f"{plural(first.height, 'photograph')} of the test set {name} {'is, or shows' if first.height == 1 else 'are, or show'} patients, of the photographs that classifiers learn "
            f"from:\n{listing(lines)}\nRemove them, or leave them out with test.{name}.on_shared=drop. If the set numbers its "
            f"patients by itself and numbers are equal by chance, say test.{name}.patients=own."
        )
