"""Scores, decisions and funnel of a pool."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from skinaug.curate.curate import curate
from skinaug.manifest import SYNTHETIC, Manifest


class AtLeast:
    """A filter by a number that it is given."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers

    def score(self, pool: Manifest, real: Manifest, *, trainer, cache) -> pl.DataFrame:
        return pl.DataFrame({"image_id": pool.table["image_id"], "number": self.numbers})

    def keep(self, scores: pl.DataFrame, least: float) -> pl.Series:
        return scores["number"] >= least


@pytest.fixture
def pool(make_manifest) -> Manifest:
    given = dict.fromkeys(SYNTHETIC, "1") | {"source": "synthetic"}
    return make_manifest(
        [{"label": label, "prompt_set": "plain", **given} for label in ("a", "a", "a", "b", "b")]
    )


def run(pool: Manifest, out: Path, **filters: dict) -> Manifest:
    scores = {
        name: entry["scorer"].score(pool, pool, trainer=None, cache=None) for name, entry in filters.items()
    }
    curate(filters, pool=pool, scores=scores, out=out)
    return Manifest.read(out)


def test_keeps_what_passes_every_filter(pool: Manifest, tmp_path: Path, capsys):
    first = {"scorer": AtLeast([1, 0, 1, 1, 1]), "keep": {"least": 1}}
    second = {"scorer": AtLeast([5, 5, 2, 1, 1]), "keep": {"least": 2}}
    kept = run(pool, tmp_path, first=first, second=second)
    assert kept.table["image_id"].to_list() == ["i0", "i2"]
    assert kept.table.columns == pool.table.columns
    assert kept.paths()[0].is_file()
    funnel = pl.read_csv(tmp_path / "funnel.csv")
    assert funnel.rows() == [
        ("a", "generated", 3), ("a", "first", 2), ("a", "second", 2),
        ("b", "generated", 2), ("b", "first", 2), ("b", "second", 0),
    ]  # fmt: skip
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    assert scores.columns == [
        "image_id",
        "label",
        "prompt_set",
        "first.number",
        "first.keep",
        "second.number",
        "second.keep",
    ]
    assert scores["second.keep"].to_list() == [True, None, True, False, False]  # i1 never came to the second
    assert "Nothing is left of b" in capsys.readouterr().out


def test_order_moves_the_funnel_and_not_the_result(pool: Manifest, tmp_path: Path):
    filters = {
        "x": {"scorer": AtLeast([1, 0, 1, 1, 1]), "keep": {"least": 1}},
        "y": {"scorer": AtLeast([0, 0, 1, 1, 1]), "keep": {"least": 1}},
    }
    kept = []
    for names in (("x", "y"), ("y", "x")):
        (tmp_path / names[0]).mkdir()
        kept.append(
            run(pool, tmp_path / names[0], **{name: filters[name] for name in names})
            .table["image_id"]
            .to_list()
        )
    assert kept[0] == kept[1]
    steps = [pl.read_csv(tmp_path / name / "funnel.csv")["kept"][1] for name in ("x", "y")]
    assert steps == [2, 1]


def test_no_filter_passes_all(pool: Manifest, tmp_path: Path):
    assert run(pool, tmp_path).table.equals(pool.table)
    assert pl.read_csv(tmp_path / "funnel.csv")["step"].to_list() == ["generated", "generated"]
