"""A stage in place of the real one, which notes what it is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skinaug.manifest import Manifest


def note_splits(*, out: Path, **given: Any) -> None:
    """Write which splits each manifest holds to out/splits.json."""
    splits = {
        name: sorted(value.table["split"].unique())
        for name, value in given.items()
        if isinstance(value, Manifest)
    }
    (out / "splits.json").write_text(json.dumps(splits))


class NoteSplits:
    """A filter that passes all images where the real ones are training images, and none otherwise."""

    def __init__(self, **settings: Any) -> None:
        """Takes the settings of the filter in whose place it stands."""

    def score(self, pool: Manifest, real: Manifest, *, trainer: Any, cache: Path) -> Any:
        import polars as pl

        only_train = real.table["split"].unique().to_list() == ["train"]
        return pool.table.select("image_id").with_columns(only_train=pl.lit(only_train))

    def keep(self, scores: Any) -> Any:
        return scores["only_train"]
