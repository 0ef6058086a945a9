"""The order in which a reviewer sees a pool, and the way through it."""

from __future__ import annotations

from pathlib import Path

import pytest
from reviewing import small_pool

from skinaug.curate.decisions import read_own, record
from skinaug.curate.deck import Deck
from skinaug.manifest import Manifest


@pytest.fixture
def pool(tmp_path: Path) -> Manifest:
    return small_pool(tmp_path)


def written(folder: Path, reviewer: str = "ana") -> list[str]:
    return read_own(folder, reviewer)["image_id"].to_list()


def test_the_order_is_by_class_and_the_same_for_all(pool: Manifest, tmp_path: Path):
    turned = pool.with_table(pool.table.reverse())
    ana, bo = Deck(pool, tmp_path / "r", "ana"), Deck(turned, tmp_path / "r", "bo")
    ids = [image["image_id"] for image in ana.images]
    assert ids == [image["image_id"] for image in bo.images]
    assert [image["label"] for image in ana.images] == ["blue"] * 3 + ["green"] * 3 + ["red"] * 3
    assert ana.queue == list(range(9))
    assert not (tmp_path / "r").exists(), "nothing is written before the first decision"


def test_a_decision_is_on_disk_and_the_next_unreviewed_comes(pool: Manifest, tmp_path: Path):
    deck = Deck(pool, tmp_path, "ana")
    deck.decide("keep")
    deck.next()
    deck.decide("reject")
    assert written(tmp_path) == [deck.images[0]["image_id"], deck.images[2]["image_id"]]
    assert (deck.judged, deck.current) == ({0: "keep", 2: "reject"}, 3)
    assert Deck(pool, tmp_path, "ana").current == 1, "a new start goes to the first that is not judged"
    assert Deck(pool, tmp_path, "bo").current == 0, "others see none of it"


def test_what_was_skipped_comes_again_until_all_is_judged(pool: Manifest, tmp_path: Path):
    deck = Deck(pool, tmp_path, "ana")
    deck.select("red", "unreviewed")
    seen = []
    for word in (None, "keep", "keep", None, "reject"):
        seen.append(deck.current)
        deck.decide(word) if word else deck.next()
    assert seen == [6, 7, 8, 6, 6]
    assert deck.current is None
    deck.decide("keep")
    deck.next()
    assert len(written(tmp_path)) == 3
    deck.previous()
    assert deck.current == 8


def test_going_back_shows_what_was_judged_and_lets_it_be_changed(pool: Manifest, tmp_path: Path):
    deck = Deck(pool, tmp_path, "ana")
    deck.previous()
    assert deck.current == 0
    deck.decide("keep")
    deck.previous()
    assert (deck.current, deck.judged[0]) == (0, "keep")
    deck.decide("reject")
    assert (deck.current, deck.judged) == (1, {0: "reject"})


def test_undo_takes_back_the_latest_whatever_is_shown(pool: Manifest, tmp_path: Path):
    record(tmp_path, "ana", "of another pool", "0" * 64, "keep")
    deck = Deck(pool, tmp_path, "ana")
    assert not deck.undo()
    deck.decide("keep")
    deck.decide("keep")
    deck.previous()
    deck.previous()
    deck.decide("reject")  # 0 anew: the latest
    deck.select("red", "unreviewed")
    assert deck.undo()
    assert (deck.current, deck.judged) == (0, {1: "keep"})
    assert deck.undo()
    assert (deck.current, deck.judged) == (1, {})
    assert not deck.undo()
    assert written(tmp_path) == ["of another pool"]


def test_ones_own_rejects_and_all(pool: Manifest, tmp_path: Path):
    deck = Deck(pool, tmp_path, "ana")
    for word in ("reject", "keep", "reject"):
        deck.decide(word)
    deck.select(None, "rejects")
    assert (deck.queue, deck.current) == ([0, 2], 0)
    deck.decide("keep")
    assert deck.current == 2
    deck.next()
    assert deck.current is None
    deck.select(None, "all")
    assert (len(deck.queue), deck.current) == (9, 3)
    deck.select("green", "rejects")
    assert deck.current is None
    assert list(deck.counts().items()) == [("blue", (3, 3)), ("green", (0, 3)), ("red", (0, 3))]
