"""Scores, decisions and funnel of a pool."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from skinaug.curate.curate import curate, exposure
from skinaug.errors import InputError
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
        [{"label": label, **given, "prompt_set": "plain"} for label in ("a", "a", "a", "b", "b")]
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
    assert kept.table.columns == [*pool.table.columns, "exposure"]
    assert kept.paths()[0].is_file()
    assert left(tmp_path) == {
        ("a", "generated"): 3, ("a", "first"): 2, ("a", "second"): 2,
        ("b", "generated"): 2, ("b", "first"): 2,
    }  # fmt: skip
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    assert scores.columns == [
        "image_id", "label", "prompt_set", "subgroup",
        "first.number", "first.keep", "first.reason", "second.number", "second.keep", "second.reason",
    ]  # fmt: skip
    assert scores["second.keep"].to_list() == [True, None, True, False, False]  # i1 never came to the second
    assert scores["second.reason"].to_list() == [None, None, None, "second", "second"]
    assert "Nothing is left of b" in capsys.readouterr().out


def left(folder: Path) -> dict[tuple[str, str], int]:
    """Images that each step left of each class, from the funnel."""
    kept = (
        pl.read_csv(folder / "funnel.csv")
        .filter("kept")
        .group_by("label", "step")
        .agg(pl.col("images").sum())
    )
    return {(label, step): images for label, step, images in kept.iter_rows()}


class Sized(AtLeast):
    """Gives reasons, also for what stays."""

    exposure = "off_the_shelf"

    def keep(self, scores: pl.DataFrame) -> pl.DataFrame:
        small, large = scores["number"] < 1, scores["number"] > 2
        words = [
            "small" if s else "large, but welcome" if much else None
            for s, much in zip(small, large, strict=True)
        ]
        return pl.DataFrame({"keep": ~small, "reason": words})


def test_funnel_tells_class_prompt_set_subgroup_and_reason(pool: Manifest, tmp_path: Path, capsys):
    types = pl.Series("skin_type", ["I", "VI", None, "I", "I"])
    kept = run(
        pool.with_table(pool.table.with_columns(types)), tmp_path, sized={"scorer": Sized([0, 3, 1, 0, 0])}
    )
    funnel = pl.read_csv(tmp_path / "funnel.csv").with_columns(pl.col(pl.String).fill_null(""))
    assert funnel.filter(pl.col("step") == "sized").rows() == [
        ("a", "plain", "I", "sized", False, "small", 1),
        ("a", "plain", "VI", "sized", True, "large, but welcome", 1),
        ("a", "plain", "", "sized", True, "", 1),
        ("b", "plain", "I", "sized", False, "small", 2),
    ]
    assert "sized: 3 rejected: small" in capsys.readouterr().out
    assert kept.table["exposure"].to_list() == ["off_the_shelf"] * 2


def test_exposure_is_that_of_the_most_knowing_filter():
    silent, modest = AtLeast([]), Sized([])
    assert exposure([]) == "raw"
    assert exposure([modest, modest]) == "off_the_shelf"
    assert exposure([modest, silent]) == "real", "a filter that does not say what it knows counts as knowing"


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
    assert [left(tmp_path / name)["a", name] for name in ("x", "y")] == [2, 1]


def test_no_filter_passes_all(pool: Manifest, tmp_path: Path):
    assert run(pool, tmp_path).table.equals(pool.table.with_columns(exposure=pl.lit("raw")))
    assert left(tmp_path) == {("a", "generated"): 3, ("b", "generated"): 2}


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        (lambda numbers: numbers > 1, None),
        (lambda numbers: (numbers > 1).to_list(), "answers 5 images with list"),
        (lambda numbers: (numbers > 1)[:3], "answers 5 images with 3 values of Boolean"),
        (lambda numbers: numbers, "answers 5 images with 5 values of Float64"),
        (lambda numbers: pl.DataFrame({"kept": numbers > 1}), "answers 5 images with DataFrame"),
        (lambda numbers: pl.DataFrame({"keep": numbers > 1}), None),
    ],
)
def test_what_a_filter_answers_is_looked_at(pool: Manifest, tmp_path: Path, kept, told: str | None):
    scorer = AtLeast([1.0, 2.0, 3.0, 1.0, 2.0])
    scorer.keep = lambda scores: kept(scores["number"])  # type: ignore[method-assign, misc]
    if told is None:
        assert len(run(pool, tmp_path, mine={"scorer": scorer})) == 3
        return
    with pytest.raises(InputError, match=told):
        run(pool, tmp_path, mine={"scorer": scorer})
    assert not (tmp_path / "manifest.parquet").exists()
