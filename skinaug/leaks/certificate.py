"""The leak certificate: no photograph, patient, lesion or near-copy of validation and test reached what led to a result.

It is made from what each stage noted that it was given (`skinaug.leaks.seen`), not from how stages are meant to be wired, and it
fails closed: a stage that has noted nothing, or a photograph that the data set does not know, is as bad as a leak.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from skinaug.errors import InputError, listing, plural, printable
from skinaug.manifest import Manifest
from skinaug.store.files import write_text

FILE_NAME = "certificate.json"
HELD_OUT = ("val", "test")
CHECKS = {  # what is looked for -> what it says when it is found
    "image": "is a held-out photograph",
    "patient": "is of a held-out patient",
    "lesion": "shows a held-out lesion",
    "near-copy": "is a near-copy of a held-out photograph",
    "unknown": "is not in the data set, so nothing can be shown of it",
}
MOST_NAMED = 20


def certify(
    data: Manifest,
    copies: pl.DataFrame | None,
    reached: Mapping[str, pl.DataFrame | None],
    not_covered: Sequence[str] = (),
) -> dict[str, Any]:
    """Check every photograph that reached a place against the held-out ones.

    Args:
        data: the data set with all splits.
        copies: near-copies between training and held-out photographs, and validation and test ones
            (`copies.find_held_out_copies`); None: not looked for. Each is a fault of the data set, whether it reached a place or not.
        reached: for each place (training, finetune, score.ensemble, ...) its photographs (`seen.COLUMNS`); None: the place has
            not noted what it was given.
        not_covered: what the certificate cannot speak of, such as what a published base model was trained on.

    Returns:
        `holds`; `held_out`: images and patients of each split; `places`: for each its number of `photographs` and of each
        of `CHECKS`; `faults`: sentences; `not_covered`.
    """
    held_out = data.where(pl.col("split").is_in(HELD_OUT)).table
    faults = [] if copies is not None else ["near-copies of held-out photographs were not looked for"]
    if copies is not None:  # whichever of them a mix happens to draw
        pairs = copies.select("image_id", "other_id").sort("image_id", "other_id").iter_rows()
        faults += [
            f"data set: {one} is a near-copy of {other}, which is held out in another split"
            for one, other in pairs
        ]
    places: dict[str, dict[str, int] | None] = {}
    for place, photographs in reached.items():
        if photographs is None:
            places[place] = None
            faults.append(f"{place} has not noted which photographs it was given")
            continue
        marked = mark(photographs, data.table, held_out, copies)
        places[place] = {"photographs": marked.height, **{name: int(marked[name].sum()) for name in CHECKS}}
        for name, words in CHECKS.items():
            faults += [f"{place}: {image} {words}" for image in marked.filter(name)["image_id"]]
    counts = {split: held_out.filter(pl.col("split") == split) for split in HELD_OUT}
    return {
        "holds": not faults,
        "held_out": {
            split: {"images": rows.height, "patients": rows["group_id"].n_unique()}
            for split, rows in counts.items()
        },
        "places": places,
        "faults": faults,
        "not_covered": list(not_covered),
    }


def mark(
    photographs: pl.DataFrame, data: pl.DataFrame, held_out: pl.DataFrame, copies: pl.DataFrame | None
) -> pl.DataFrame:
    """The photographs with one boolean column for each of `CHECKS`: image by id and by content, the others by name."""

    def among(column: str, values: pl.Series) -> pl.Expr:
        return pl.col(column).is_in(values.drop_nulls().to_list()).fill_null(False)

    lesions = (
        held_out["lesion_id"].cast(pl.String)
        if "lesion_id" in held_out.columns
        else pl.Series([], dtype=pl.String)
    )
    near = pl.Series([], dtype=pl.String) if copies is None else copies["image_id"]
    return photographs.with_columns(
        among("image_id", held_out["image_id"]).alias("image") | among("sha256", held_out["sha256"]),
        among("group_id", held_out["group_id"]).alias("patient"),
        among("lesion_id", lesions).alias("lesion"),
        among("image_id", near).alias("near-copy"),
        (~among("sha256", data["sha256"])).alias("unknown"),
    )


def require(
    certificate: Mapping[str, Any], of: str, held_out: str = "validation and test photographs"
) -> None:
    """Stop where it cannot be shown that nothing leaked.

    Raises:
        InputError: the certificate does not hold.
    """
    if not certificate["holds"]:
        raise InputError(
            f"It cannot be shown that {held_out} stayed out of the {of}:\n"
            f"{listing(certificate['faults'])}\n"
            "Nothing was trained. Split the data anew: tell patients with dataset.source.group_pattern or a group_id column, and "
            "near-copies with dataset.duplicates (those that the data's own splits share are left out of training with "
            "dataset.duplicates.across_splits=drop_train); artifacts from before an update are rebuilt with another store=<folder>."
        )


def write_certificate(certificate: Mapping[str, Any], out: Path) -> None:
    """Save as `out`/certificate.json, whole or not at all; of many faults the first are named."""
    short = {**certificate, "faults": list(certificate["faults"])[:MOST_NAMED]}
    write_text(out / FILE_NAME, json.dumps(short, indent=2) + "\n")


def print_certificate(certificate: Mapping[str, Any], of: str) -> None:
    """The certificate as a table, a row a place."""
    table = Table("place", "photographs", *CHECKS, title=f"Leak certificate of {of}", title_justify="left")
    for place, counts in certificate["places"].items():
        numbers = (
            ["not noted"] if counts is None else [str(counts[name]) for name in ("photographs", *CHECKS)]
        )
        clean = counts is not None and not any(counts[name] for name in CHECKS)
        table.add_row(place, *numbers, style="" if clean else "red")
    console = Console()
    console.print(table)
    held_out = [
        f"{split}: {plural(counts['images'], 'photograph')} of {plural(counts['patients'], 'patient')}"
        for split, counts in certificate["held_out"].items()
    ]
    console.print(f"Held out: {'; '.join(held_out)}", highlight=False)
    for text in certificate["not_covered"]:
        console.print(f"Not covered: {text}", highlight=False, soft_wrap=True)
    verdict = "[green]holds[/green]" if certificate["holds"] else "[red]does not hold[/red]"
    console.print(f"The certificate {verdict}.")
    for fault in certificate["faults"][:MOST_NAMED]:
        console.print(f"  {printable(fault)}", highlight=False, markup=False, soft_wrap=True)
