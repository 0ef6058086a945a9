"""Whether a pool that was made elsewhere holds photographs of a further test set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from skinaug.errors import InputError, listing, plural
from skinaug.leaks.lineage import COPIES
from skinaug.manifest import GIVEN, Manifest
from skinaug.metrics.hashes import hash_table
from skinaug.sources.check import usable_images
from skinaug.test.sets import HASHES


def refuse_given_copies(
    name: str, mix: Manifest, folder: Path, find_copies: Callable[..., None], out: Path
) -> None:
    """Stop where training pictures that were made elsewhere are near-copies of a test set's photographs. What the study has drawn
    itself comes from what its stages noted that they were given.

    Args:
        name: of the set; folder: of its artifact.
        mix: the training images.
        find_copies: as in `sets.take_test_set`.
        out: folder for what it finds.

    Raises:
        InputError: there are such copies.
    """
    made = pl.col("weights") == GIVEN if "weights" in mix.table.columns else pl.lit(False)
    given, further = mix.where((pl.col("source") == "synthetic") & made), Manifest.read(folder)
    if not len(given):
        return
    table, pictures, _ = usable_images(given.root, given.table, 1, "fail")
    hashes = hash_table(table, [picture.thumbnail for picture in pictures])
    known = pl.read_parquet(folder / HASHES).select(hashes.columns)
    find_copies(manifest=Manifest.concat([given, further]), hashes=pl.concat([hashes, known]), out=out)
    found = pl.read_parquet(out / COPIES)
    (out / COPIES).unlink()
    if found.height:
        lines = [f"{one} is {other}" for one, other in found.select("image_id", "other_id").iter_rows()]
        raise InputError(
            f"{plural(found.height, 'picture of the pool is a near-copy of photographs', 'pictures of the pool are near-copies of photographs')} of the test set {name}:\n{listing(lines)}\n"
            "Remove them from the pool, or the photographs from the test set."
        )
