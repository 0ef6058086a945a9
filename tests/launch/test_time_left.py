"""What is told of the time that a sweep still takes, against sums by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from skinaug import pipeline
from skinaug.launch.time_left import TimeLeft
from skinaug.store.artifact import Recipe
from skinaug.store.store import Store

POOL = Recipe("generate", 1, {"per_class": 10}, {})


def classifier(seed: int, steps: int = 80) -> Recipe:
    return Recipe("classify", 1, {"seed": seed, "steps": steps}, {"pool": POOL.key})


def took(store: Store, recipe: Recipe, seconds: float) -> None:
    file = store.get(recipe, lambda out: None).path / "artifact.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seconds": seconds}))


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Four jobs: a classifier each, on one pool."""
    monkeypatch.setattr(pipeline, "recipes", lambda cfg, stage: {"generate": POOL, stage: cfg.recipe})
    return [SimpleNamespace(store=str(tmp_path), recipe=classifier(seed)) for seed in range(4)]


def test_the_first_jobs_time_the_rest(jobs, tmp_path: Path):
    store, left = Store(tmp_path), TimeLeft(jobs, "classify")
    assert (
        left.begin() == "4 jobs, 5 artifacts to build: generate, classify, which nothing here has timed yet"
    )
    took(store, POOL, 300.0)
    took(store, classifier(0), 100.0)
    assert left.after(1) == "about 5 minutes left", "three classifiers of 100 s, and the pool is there"
    took(store, classifier(1), 20.0)
    assert left.after(2) == "about 2 minutes left", "two of 60 s"
    assert left.after(3) == "about 60 seconds left", "the third has failed, and nobody waits for it"
    assert left.after(4) == ""


def test_earlier_artifacts_tell_before_anything_is_built(jobs, tmp_path: Path):
    took(Store(tmp_path), POOL, 300.0)
    took(Store(tmp_path), classifier(9, steps=800), 900.0)
    took(Store(tmp_path), classifier(8), 90.0)
    assert TimeLeft(jobs, "classify").begin() == "4 jobs, 4 artifacts to build: about 6 minutes", (
        "by the nearest"
    )


def test_what_is_there_or_quick_is_no_wait(jobs, tmp_path: Path):
    for recipe in (POOL, *(classifier(seed) for seed in range(4))):
        took(Store(tmp_path), recipe, 0.2)
    left = TimeLeft(jobs, "classify")
    assert left.begin() == "4 jobs, 0 artifacts to build"
    assert left.after(1) == ""
