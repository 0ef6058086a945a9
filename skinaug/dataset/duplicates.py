"""Pictures that occur more than once: identical ones are dropped, near-copies pull their patients' groups together.

Candidates are found by perceptual hash, for each picture and its mirror image; the embedding of a pretrained backbone
confirms them. A near-copy in another split would let a classifier be tested on what it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from skinaug.dataset.across_splits import copies_of_held_out, levels_of
from skinaug.dataset.joined import large_groups
from skinaug.errors import InputError, listing, plural
from skinaug.manifest import Manifest
from skinaug.metrics.hashes import hamming_pairs, pair_blocks, perceptual_hashes
from skinaug.metrics.near_copies import confirmed_pairs, embedded
from skinaug.sources.check import Picture
from skinaug.sources.groups import merge_groups

PAIRS = pl.Schema(  # of near-copies
    {"row": pl.Int64(), "other": pl.Int64(), "hamming": pl.Int64(), "cosine": pl.Float64()}
)


@dataclass(frozen=True)
class Embedding:
    """Pooled features of a pretrained backbone, loaded only when called: float32 [N, D].

    Attributes:
        backbone: a timm name.
        size: pixels a side.
    """

    backbone: str = "tf_efficientnet_lite0"
    size: int = 48

    def __call__(self, manifest: Manifest) -> np.ndarray:
        from skinaug.metrics.features import (
            embed,
        )  # torch and timm load here, not for a set without candidates

        return embed(manifest, self.backbone, size=self.size)


@dataclass(frozen=True)
class Duplicates:
    """What to do about pictures that occur more than once.

    Attributes:
        conflicts: one picture with different labels: "drop" all its copies, "fail", or "keep".
        copies: identical pixels with one label: "drop" all but one, or "keep".
        max_hamming: near-copies differ in at most this many of 64 bits of their perceptual hashes; None: look for none.
        min_cosine: and their embeddings have at least this cosine, in [-1, 1].
        same_cosine: from this cosine on, near-copies are one picture, saved anew or scaled: its labels should agree.
        embed: manifest to float [N, D]; None: the hashes alone decide, and only identical pixels are one picture.
        across_splits: pictures that the source's own splits share: "fail", where copies join groups of several splits, or
            "drop_train": copies of test pictures leave training and validation, those of validation pictures training.
    """

    conflicts: str = "drop"
    copies: str = "drop"
    max_hamming: int | None = 10
    min_cosine: float = 0.87
    same_cosine: float = 0.97
    embed: Callable[[Manifest], np.ndarray] | None = None
    across_splits: str = "fail"

    def __post_init__(self) -> None:
        choices = {
            "conflicts": ("drop", "fail", "keep"),
            "copies": ("drop", "keep"),
            "across_splits": ("fail", "drop_train"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"dataset.duplicates.{name}={getattr(self, name)}: choose from {', '.join(allowed)}."
                )


def without_copies(
    folder: Path, table: pl.DataFrame, pictures: Sequence[Picture], rules: Duplicates
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, list[dict[str, Any]]]:
    """Join the groups of copies, and drop what `rules` tell.

    Args:
        folder: that the paths are relative to.
        table: `image_id, path, label, group_id` and other columns of a manifest; `split` where the source has its own.
        pictures: what was read of each row's file.

    Returns:
        the kept rows; pairs of near-copies `path, other_path, label, other_label, hamming, cosine, across_groups`;
        `path, reason` of the dropped rows; and what is to be told of groups that have grown large (`joined.large_groups`).

    Raises:
        InputError: one picture has different labels, and `rules.conflicts` is "fail".
    """
    labels, image_ids = table["label"].to_list(), table["image_id"].to_list()
    exact = find_copies([picture.pixels_sha256 for picture in pictures], labels, image_ids)
    near = _near_copies(folder, table, pictures, rules)
    twins = near.filter((pl.col("cosine") >= rules.same_cosine).fill_null(False))
    same = find_copies(merge_groups(image_ids, _pairs(exact, twins)), labels, image_ids)
    conflicts = same.filter("conflict").join(table.with_row_index("row"), on="row")
    if rules.conflicts == "fail":
        refuse_conflicts(conflicts)
    pairs, reasons = _pairs(exact, near), {}
    if rules.across_splits == "drop_train":
        levels, paths = levels_of(table), table["path"].to_list()
        without = conflicts["row"].to_list() if rules.conflicts == "drop" else []
        reasons = copies_of_held_out(levels, _pairs(_all_copies(exact), near), paths, without)
        # What is left of the copies is joined and dropped within the splits.
        named = [f"{picture.pixels_sha256} {level}" for picture, level in zip(pictures, levels, strict=True)]
        exact = find_copies(named, labels, image_ids)
        pairs = _pairs(exact, near)
        pairs = pairs[levels[pairs[:, 0]] == levels[pairs[:, 1]]]
    groups = table["group_id"].to_list()
    merged = merge_groups(groups, pairs)
    large = large_groups(groups, merged, table["path"], pl.concat([_exact_pairs(exact), near.cast(PAIRS)]))
    joined = table.with_columns(group_id=pl.Series(merged, dtype=pl.String))
    reasons = (_copies(exact, table) if rules.copies == "drop" else {}) | reasons
    reasons |= _conflicts(conflicts) if rules.conflicts == "drop" else {}
    dropped = table[list(reasons)].select("path", reason=pl.Series(list(reasons.values()), dtype=pl.String))
    kept = joined.with_row_index("row").filter(~pl.col("row").is_in(list(reasons))).drop("row")
    return kept, _readable(near, table), dropped, large


def find_copies(names: Sequence[str], labels: Sequence[str], image_ids: Sequence[str]) -> pl.DataFrame:
    """Rows whose picture, told by its name, occurs more than once: `row, first, conflict`.

    `first` is the row of the copy with the smallest `image_id`; `conflict` is whether the copies' labels differ.
    """
    table = pl.DataFrame({"picture": names, "label": labels, "image_id": image_ids}).with_row_index("row")
    copies = table.filter(pl.len().over("picture") > 1)
    return copies.select(
        "row",
        first=pl.col("row").sort_by("image_id").first().over("picture"),
        conflict=pl.col("label").n_unique().over("picture") > 1,
    )


def find_near_copies(
    manifest: Manifest,
    thumbnails: np.ndarray,
    max_hamming: int,
    min_cosine: float,
    embed: Callable[[Manifest], np.ndarray] | None,
) -> pl.DataFrame:
    """Pairs of near-identical pictures: `row, other, hamming, cosine` with row < other; cosine is null without `embed`.

    Args:
        manifest: N images; only candidates are embedded.
        thumbnails: grey, uint8 [N, 32, 32].
        max_hamming, min_cosine, embed: as in `Duplicates`.
    """
    hashes = perceptual_hashes(thumbnails)
    cosines: np.ndarray | None = None
    if embed is None:
        pairs, distances = hamming_pairs(*hashes, max_hamming)
    else:
        pairs, distances, cosines = confirmed_pairs(
            lambda: pair_blocks(*hashes, max_hamming), partial(embedded, manifest, embed), min_cosine
        )
    return pl.DataFrame(
        {
            "row": pairs[:, 0],
            "other": pairs[:, 1],
            "hamming": distances,
            "cosine": pl.Series(cosines, dtype=pl.Float64) if cosines is not None else [None] * len(pairs),
        },
        schema_overrides={"cosine": pl.Float64},
    )


def refuse_conflicts(conflicts: pl.DataFrame) -> None:
    """Raise an InputError that lists the pictures with different labels (`first, path, label`), if there are any."""
    lines = [
        ", ".join(f"{path} is {label}" for path, label in part.select("path", "label").iter_rows())
        for part in conflicts.sort("first", "path").partition_by("first", maintain_order=True)
    ]
    if lines:
        raise InputError(
            f"{plural(len(lines), 'picture occurs', 'pictures occur')} with different labels:\n{listing(lines)}"
            "\nCorrect the labels, or leave these pictures out with dataset.duplicates.conflicts=drop."
        )


def _copies(exact: pl.DataFrame, table: pl.DataFrame) -> dict[int, str]:
    """Row to reason, for identical pixels with one label: all but the first."""
    copies = exact.filter(~pl.col("conflict") & (pl.col("row") != pl.col("first")))
    return {
        row: f"copy: of {table['path'][first]}" for row, first in copies.select("row", "first").iter_rows()
    }


def _conflicts(conflicts: pl.DataFrame) -> dict[int, str]:
    """Row to reason, for pictures with different labels: all of them."""
    labels = pl.col("label").unique().sort().implode().list.join(", ").over("first")
    reasons = pl.lit("same picture with different labels: ") + labels
    return dict(conflicts.select("row", reasons.alias("reason")).iter_rows())


def _near_copies(
    folder: Path, table: pl.DataFrame, pictures: Sequence[Picture], rules: Duplicates
) -> pl.DataFrame:
    """Near-copies that are not identical."""
    if rules.max_hamming is None:
        return pl.DataFrame(schema=PAIRS)
    manifest = Manifest(
        table.with_columns(split=pl.lit("train")), folder, tuple(sorted(table["label"].unique()))
    )
    thumbnails = np.stack([picture.thumbnail for picture in pictures])
    near = find_near_copies(manifest, thumbnails, rules.max_hamming, rules.min_cosine, rules.embed)
    digests = np.array([picture.pixels_sha256 for picture in pictures])
    return near.filter(pl.Series(digests[near["row"]] != digests[near["other"]], dtype=pl.Boolean))


def _all_copies(exact: pl.DataFrame) -> pl.DataFrame:
    """Each row of a copied picture with each other as `first`."""
    return exact.select("row", picture="first").join(
        exact.select(pl.col("row").alias("first"), picture="first"), on="picture"
    )


def _pairs(exact: pl.DataFrame, near: pl.DataFrame) -> np.ndarray:
    """Links between rows: each copy with its first, and near-copies with each other, int64 [P, 2]."""
    parts = [exact.select("row", "first").to_numpy(), near.select("row", "other").to_numpy()]
    return np.concatenate(parts).astype(np.int64)


def _exact_pairs(exact: pl.DataFrame) -> pl.DataFrame:
    """Each copy with its first, as near-copies are told."""
    others = exact.filter(pl.col("row") != pl.col("first"))
    return others.select(row="first", other="row", hamming=pl.lit(0), cosine=pl.lit(1.0)).cast(PAIRS)


def _readable(near: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Pairs of rows as paths and labels."""
    row, other = table[near["row"].to_list()], table[near["other"].to_list()]
    return near.select(
        row["path"],
        other["path"].alias("other_path"),
        row["label"],
        other["label"].alias("other_label"),
        "hamming",
        "cosine",
        (row["group_id"] != other["group_id"]).alias("across_groups"),
    )
