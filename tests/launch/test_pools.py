"""Jobs that their pool cannot serve are told once, all together, when the pool is there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skinaug import pipeline
from skinaug.errors import InputError
from skinaug.launch import pools
from skinaug.launch.pools import PoolWatch
from skinaug.store.artifact import Recipe
from skinaug.store.store import Store

DATA = Recipe("dataset", 1, {}, {})
HAS = 18  # images of a class


def pool(number: int) -> Recipe:
    return Recipe("curate", 1, {"pool": number}, {})


def build(store: Path, *recipes: Recipe) -> None:
    for recipe in recipes:
        Store(store).get(recipe, lambda out: None)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]) -> PoolWatch:
    """Five jobs: one without a pool, three of pool 0 that ask for 10, 20 and 20 images, one of pool 1 that asks for 30."""

    def recipes(cfg: Any, stage: str) -> dict[str, Recipe]:
        own = {} if cfg.pool is None else {"curate": pool(cfg.pool)}
        return {"dataset": DATA, **own, "mix": Recipe("mix", 1, {}, {})}

    def check_pool(cfg: Any, plan: Any, made: Mapping[str, Any]) -> None:
        assert {"dataset", "curate"} <= {*made}
        if cfg.asks > HAS:
            raise InputError(f"has {HAS}, asked {cfg.asks}")

    def there(cfg: Any, plan: Any) -> dict[str, Any]:
        return {name: one for name, one in recipes(cfg, "").items() if Store(tmp_path).has(one)}

    monkeypatch.setattr(pipeline, "recipes", recipes)
    monkeypatch.setattr(pipeline, "check_pool", check_pool)
    monkeypatch.setattr(pipeline, "there", there)
    monkeypatch.setattr(pipeline, "steps", lambda cfg, stage: {})
    wanted = enumerate([(None, 0), (0, 10), (0, 20), (0, 20), (1, 30)])
    jobs = {
        number: SimpleNamespace(store=str(tmp_path), pool=own, asks=asks) for number, (own, asks) in wanted
    }
    names = {number: f"seed={number}" for number in jobs}
    return PoolWatch(jobs, "classify", names, told.append)  # type: ignore[arg-type]


def test_they_are_told_together_once_and_no_sooner(watch: PoolWatch, tmp_path: Path, told: list[str]):
    build(tmp_path, DATA)
    watch.look()
    assert told == []
    build(tmp_path, pool(0))
    watch.look()
    watch.look()
    assert told == [
        "The pool is there, and 2 jobs cannot be built from it; the others go on:\n  job 2 seed=2\n  job 3 seed=3\nhas 18, asked 20"
    ]
    build(tmp_path, pool(1))
    watch.look()
    assert "and 1 job cannot" in told[1]
    assert "job 4 seed=4\nhas 18, asked 30" in told[1]
    assert watch.waiting == {}


def test_they_are_told_while_a_job_is_still_at_work(
    watch: PoolWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
):
    monkeypatch.setattr(pools, "LOOK", 0.01)
    with watch.looking():
        build(tmp_path, DATA, pool(0))
        for _ in range(1000):
            if told:
                break
            time.sleep(0.01)
        assert len(told) == 1
