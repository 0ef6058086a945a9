"""Phantom photographs as manifests, with the truth about them in their rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from skinaug.dataset.phantom.source import Phantom, PhantomMorphology
from skinaug.manifest import Manifest
from skinaug.store.digest import sha256_file


def phantom_manifest(source: Phantom | PhantomMorphology, folder: Path) -> Manifest:
    """Render a source into a folder: all rows real and of the train split."""
    table = source.load(folder)
    return Manifest(
        table.with_columns(
            split=pl.lit("train"),
            source=pl.lit("real"),
            width=pl.lit(source.image_size, pl.Int32),
            height=pl.lit(source.image_size, pl.Int32),
            sha256=pl.Series([sha256_file(folder / path) for path in table["path"]]),
        ),
        folder,
        source.classes,
    )
