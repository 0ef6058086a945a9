"""Copies within a pool."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
import pytest

from skinaug.curate.filters import near_duplicate
from skinaug.curate.filters.near_duplicate import NearDuplicate
from skinaug.errors import InputError
from skinaug.models.backbone import create_backbone
from skinaug.models.trainer import make_trainer

TRAINER = partial(make_trainer, accelerator="cpu")
FILTER = NearDuplicate(partial(create_backbone, "test_resnet", pretrained=False), image_size=32)


def scored(monkeypatch, make_manifest, vectors: list[list[float]], neighbours: int = 20) -> pl.DataFrame:
    """The filter's scores of pictures whose features are these vectors."""
    monkeypatch.setattr(near_duplicate, "embed", lambda *_: np.array(vectors, np.float32))
    pool = make_manifest([{"label": "a"} for _ in vectors])
    return NearDuplicate(FILTER.backbone, 32, neighbours).score(pool, pool, trainer=TRAINER, cache=None)


def test_copied_files_are_found_by_their_features(make_manifest):
    pool = make_manifest([{"label": "a"} for _ in range(5)])
    again = pool.table.head(2).with_columns(image_id=pl.col("image_id") + "-copy")
    twice = pool.with_table(pl.concat([pool.table, again]))
    scores = FILTER.score(twice, pool, trainer=TRAINER, cache=None)
    assert FILTER.keep(scores, max_similarity=1 - 1e-5)["keep"].to_list() == [True] * 5 + [False] * 2
    assert [near[0] for near in scores["like"][5:]] == ["i0", "i1"]


def test_the_first_of_a_set_stays_and_a_chain_is_not_swallowed(monkeypatch, make_manifest):
    turns = np.radians([0, 10, 20, 90])  # 0 and 20 are both like 10, and not like each other
    scores = scored(monkeypatch, make_manifest, np.stack([np.cos(turns), np.sin(turns)], 1).tolist())
    threshold = float(np.cos(np.radians(15)))
    assert FILTER.keep(scores, max_similarity=threshold)["keep"].to_list() == [True, False, True, True]
    assert FILTER.keep(scores, max_similarity=1.0)["keep"].all()


def test_what_an_earlier_filter_took_no_longer_counts(monkeypatch, make_manifest):
    scores = scored(monkeypatch, make_manifest, [[1, 0], [1, 0.01], [0, 1]])
    assert FILTER.keep(scores, max_similarity=0.9)["keep"].to_list() == [True, False, True]
    assert FILTER.keep(scores[1:], max_similarity=0.9)["keep"].to_list() == [True, True]


def test_one_of_many_copies_is_left_although_each_remembers_few(monkeypatch, make_manifest):
    scores = scored(monkeypatch, make_manifest, [[1, 0]] * 6 + [[0, 1]], neighbours=6)
    assert FILTER.keep(scores, max_similarity=0.9)["keep"].to_list() == [True, *[False] * 5, True]


def test_a_threshold_that_is_no_share_is_refused():
    with pytest.raises(InputError, match=r"near_duplicate\.keep\.max_similarity=2"):
        FILTER.keep(pl.DataFrame(), max_similarity=2)
