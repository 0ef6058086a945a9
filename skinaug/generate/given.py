"""A pool that was made elsewhere: checked as real images are, and kept apart from validation and test photographs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from skinaug.errors import InputError, listing, plural
from skinaug.labels import by_class, class_named
from skinaug.leaks.lineage import COPIES, check_given
from skinaug.manifest import GIVEN, Manifest
from skinaug.metrics.hashes import hash_table
from skinaug.sources.check import Picture, usable_images
from skinaug.sources.labels import labelled
from skinaug.sources.masks import check_choice
from skinaug.sources.noticed import notice, tell
from skinaug.sources.root import check_root
from skinaug.sources.sources import Source

NUMBERS = {"seed": pl.Int64, "guidance_scale": pl.Float64, "num_inference_steps": pl.Int64}
FindCopies = Callable[..., None]  # `audit.copies.find_held_out_copies` with its settings


def given_table(
    source: Source,
    root: Path,
    name: str,
    labels: Mapping[str, str] | None,
    classes: Sequence[str],
    on_bad: str,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pool's rows with the columns of a manifest but what the files themselves tell, and `path, reason` of rows without a label.
    Only lists files.

    Args:
        name: of the pool, which stands for its prompt set and in front of ids that are paths.
        labels: the pool's names of classes to the data's; None: they are the same.
        classes: of the data.
        on_bad: rows without a label: "fail" or "drop".

    Raises:
        InputError: no images, rows without a label, classes that the data lack, or classes of the data that the pool lacks.
    """
    table, without_label = labelled(source.load(root), on_bad)
    if labels:
        names = {
            theirs: class_named(ours, classes)
            for theirs, ours in by_class(labels, table["label"].unique()).items()
        }
        table = table.with_columns(pl.col("label").replace(names))
    _check_classes(sorted(table["label"].unique()), classes, name)
    if table.schema.get("parents") == pl.String:
        table = table.with_columns(pl.col("parents").str.split(";"))
    without = [column for column in ("split", "group_id", "source") if column in table.columns]
    table = table.drop(without)
    absent = {
        column: pl.lit(None, pl.String)
        for column in ("image_id", "prompt", "scheduler", *NUMBERS)
        if column not in table.columns
    }
    by_path = pl.format("{}/{}", pl.lit(name), "path")
    table = table.with_columns(**absent).with_columns(
        *(pl.col(column).cast(dtype, strict=False) for column, dtype in NUMBERS.items()),
        image_id=pl.coalesce("image_id", by_path),
        prompt_set=pl.lit(name),
        weights=pl.lit(GIVEN),
        split=pl.lit("train"),
        source=pl.lit("synthetic"),
    )
    return table.with_columns(group_id=pl.col("image_id")), without_label


def take_pool(
    source: Source,
    root: str,
    name: str,
    seen: str,
    labels: Mapping[str, str] | None,
    min_size_px: int,
    on_bad: str,
    masks: str = "fail",
    *,
    data: Manifest,
    find_copies: FindCopies,
    hashes: pl.DataFrame,
    out: Path,
) -> None:
    """Write out/manifest.parquet of a pool in `root`, where it stays; copies.parquet of near-copies, which has no rows;
    dropped.csv of pictures that cannot be used, are masks or are there twice; summary.json of what was `noticed`.

    Args:
        seen: a key of `leaks.lineage.SEEN`.
        min_size_px, on_bad, masks: as in `dataset.build_dataset`.
        data: the data set with all splits; hashes: of its images (`dataset.build_dataset`).
        find_copies: looks for near-copies of held-out photographs.

    Raises:
        InputError: bad images, as `given_table`, ids that the data have too, or copies of validation or test photographs.
    """
    folder = check_root(source, root, "generate") or out
    table, without_label = given_table(source, folder, name, labels, data.classes, on_bad)
    listed = [table, without_label]
    table, pictures, bad = usable_images(folder, table, min_size_px, on_bad, masks)
    noticed = notice(folder, listed, table["path"].to_list(), pictures)
    first = pl.Series([picture.pixels_sha256 for picture in pictures]).is_first_distinct()
    twice = table.filter(~first).select("path", reason=pl.lit("copy of another picture of the pool"))
    table, pictures = table.filter(first), [p for p, own in zip(pictures, first, strict=True) if own]
    if twice.height:
        Console().print(f"dropped {twice.height}: copies of other pictures of the pool", highlight=False)
    pool = Manifest(table, folder, data.classes)
    _refuse_ids(pool, data)
    _refuse_held_out(pool, pictures, data, hashes, find_copies, out)
    _check_classes(sorted(pool.table["label"].unique()), data.classes, name)
    pool.write(out)
    pl.concat([without_label, bad, twice]).write_csv(out / "dropped.csv")
    (out / "summary.json").write_text(json.dumps({"noticed": noticed}, indent=2) + "\n")
    tell(noticed)


def check_settings(
    name: Any, seen: str, min_size_px: int, on_bad: str, masks: str = "fail", **_: Any
) -> None:
    """Refuse settings that cannot work; imports no torch.

    Raises InputError.
    """
    check_given("generate", "pool", name, seen)
    if on_bad not in ("fail", "drop"):
        raise InputError(f"generate.on_bad={on_bad}: choose fail or drop.")
    check_choice(masks, "generate.masks")


def _check_classes(found: Sequence[str], classes: Sequence[str], name: str) -> None:
    foreign = [label for label in found if label not in classes]
    missing = [label for label in classes if label not in found]
    if foreign or missing:
        raise InputError(
            f"The pool {name} does not have the data's classes, {', '.join(classes)}."
            + (f"\nNot among them: {', '.join(foreign)}." if foreign else "")
            + (f"\nWithout a picture: {', '.join(missing)}." if missing else "")
            + "\nMap names with generate.labels={theirs: ours}, or choose classes with dataset.classes."
        )


def _refuse_ids(pool: Manifest, data: Manifest) -> None:
    both = pool.table.join(data.table, on="image_id", how="semi")["image_id"].to_list()
    if both:
        raise InputError(
            f"{plural(len(both), 'picture of the pool has an id', 'pictures of the pool have ids')} of photographs of the data:\n{listing(both)}\nLeave image_id out of the "
            "pool's table, or give it others."
        )


def _refuse_held_out(
    pool: Manifest,
    pictures: Sequence[Picture],
    data: Manifest,
    hashes: pl.DataFrame,
    find_copies: FindCopies,
    out: Path,
) -> None:
    """Look for validation and test photographs in the pool, as they are looked for among the training photographs."""
    of_pool = hash_table(pool.table, [picture.thumbnail for picture in pictures])
    held_out = data.where(pl.col("split") != "train")
    known = hashes.join(held_out.table, on="image_id", how="semi").select(of_pool.columns)
    find_copies(manifest=Manifest.concat([pool, held_out]), hashes=pl.concat([of_pool, known]), out=out)
    found = pl.read_parquet(out / COPIES)
    if found.height:
        lines = [
            f"{one} is {other} ({split})"
            for one, other, split in found.select("image_id", "other_id", "other_split").iter_rows()
        ]
        raise InputError(
            f"{plural(len(lines), 'picture of the pool is a near-copy', 'pictures of the pool are near-copies')} of validation or test photographs:\n{listing(lines)}\nA classifier that "
            "learns from them would be judged on what it has seen. Remove them from the pool."
        )
