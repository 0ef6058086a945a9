"""The filter that keeps what reviewers kept."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from skinaug.curate.decisions import record
from skinaug.curate.filters.human import Human
from skinaug.errors import InputError
from skinaug.manifest import SYNTHETIC, Manifest


@pytest.fixture
def pool(make_manifest) -> Manifest:
    given = dict.fromkeys(SYNTHETIC, "1") | {"source": "synthetic", "label": "a"}
    return make_manifest([given for _ in range(5)])


@pytest.fixture
def reviews(pool: Manifest, tmp_path: Path) -> Path:
    """Three reviewers about i0 to i4: all keep, two of three keep, one each, all reject, nobody."""
    votes = {"ana": "kkkr", "bo": "kkrr", "cy": "kr-r"}
    for reviewer, letters in votes.items():
        for image, letter in zip(pool.table.iter_rows(named=True), letters, strict=False):
            if letter != "-":
                word = {"k": "keep", "r": "reject"}[letter]
                record(tmp_path / "reviews", reviewer, image["image_id"], image["sha256"], word)
    return tmp_path / "reviews"


def scored(reviews: Path, pool: Manifest) -> pl.DataFrame:
    return Human(str(reviews)).score(pool, pool, trainer=None, cache=None)


def test_scores_count_reviewers_in_the_pools_order(reviews: Path, pool: Manifest):
    turned = pool.with_table(pool.table.reverse())
    scores = scored(reviews, turned)
    assert scores.schema == {"image_id": pl.String, "keeps": pl.Int64, "rejects": pl.Int64}
    assert scores.rows() == [("i4", 0, 0), ("i3", 0, 3), ("i2", 1, 1), ("i1", 2, 1), ("i0", 3, 0)]


def test_a_decision_about_another_file_of_the_same_id_does_not_count(reviews: Path, pool: Manifest):
    record(reviews, "di", "i4", "0" * 64, "keep")
    assert scored(reviews, pool).rows()[4] == ("i4", 0, 0)


@pytest.mark.parametrize(
    ("thresholds", "kept", "reasons"),
    [
        ({}, "11000", [None, None, "reviewers are divided", "rejected by reviewers", "not reviewed"]),
        (
            {"rule": "any_reject"},
            "10000",
            [None, "rejected by reviewers", "rejected by reviewers", "rejected by reviewers", "not reviewed"],
        ),
        (
            {"unreviewed": "keep"},
            "11001",
            [None, None, "reviewers are divided", "rejected by reviewers", None],
        ),
    ],
)
def test_rules(reviews: Path, pool: Manifest, thresholds: dict, kept: str, reasons: list):
    verdict = Human(str(reviews)).keep(scored(reviews, pool), **thresholds)
    assert verdict.columns == ["keep", "reason"]
    assert verdict["keep"].to_list() == [letter == "1" for letter in kept]
    assert verdict["reason"].to_list() == reasons


def test_a_part_of_the_rows_is_judged_alike(reviews: Path, pool: Manifest):
    scores, human = scored(reviews, pool), Human(str(reviews))
    assert human.keep(scores[1:3])["keep"].to_list() == [True, False]
    none = human.keep(scores.clear())
    assert none.schema == {"keep": pl.Boolean, "reason": pl.String}


@pytest.mark.parametrize("thresholds", [{"rule": "most"}, {"unreviewed": "maybe"}])
def test_unknown_rules_are_refused(reviews: Path, pool: Manifest, thresholds: dict):
    [(name, value)] = thresholds.items()
    with pytest.raises(InputError, match=rf"filter\.human\.keep\.{name}={value} is not there: choose"):
        Human(str(reviews)).keep(scored(reviews, pool), **thresholds)


def test_without_a_decision_about_the_pool_review_comes_first(pool: Manifest, tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere holds none. Run `skinaug review` first"):
        scored(tmp_path / "nowhere", pool)
    record(tmp_path / "other", "ana", "of another pool", "0" * 64, "keep")
    with pytest.raises(InputError, match=r"1 decisions, none about this pool. Run `skinaug review` first"):
        scored(tmp_path / "other", pool)


def test_its_decision_rests_on_real_photographs():
    assert Human.exposure == "real"
