"""What a picture was made from, as the review page is told it."""

from __future__ import annotations

import polars as pl

from skinaug.curate.nearest_real import made_from
from skinaug.manifest import Manifest


def columns(pool: Manifest, real: Manifest) -> list[tuple]:
    return made_from(pool, real).select("parent", "mask").rows()


def test_parents_and_masks_by_path(make_manifest, tmp_path):
    real = make_manifest([{"label": "acne"}] * 2, root=tmp_path / "real")
    pool = make_manifest([{"label": "acne"}] * 3, root=tmp_path / "pool")
    assert columns(pool, real) == [(None, None)] * 3
    drawn = pool.with_table(pool.table.with_columns(parents=pl.Series([[]] * 3, dtype=pl.List(pl.Null))))
    assert columns(drawn, real) == [(None, None)] * 3
    parents = pl.Series([["i1"], [], ["elsewhere"]], dtype=pl.List(pl.String))
    made = pool.with_table(pool.table.with_columns(parents=parents, mask=pl.Series(["m.png", None, None])))
    there = (str(real.paths()[1]), str(tmp_path / "pool" / "m.png"))
    assert columns(made, real) == [there, (None, None), (None, None)]
