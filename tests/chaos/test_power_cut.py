"""Power cuts: a machine that goes down keeps what was flushed, and of the newest other files a part, zeros, or nothing."""

from __future__ import annotations

import random

import pytest
from chaos.conftest import Tally, finish
from chaos.harness import STAGES, Death, Study, cached, power_cut, spoil

from skinaug.models.tracking import STEP, _history

pytestmark = pytest.mark.chaos

CUTS = 2


@pytest.mark.parametrize("case", STAGES)
def test_the_newest_files_lose_their_content(case: str, study: Study, tally: Tally, chaos_seed: int):
    arena, rng = study.arena(case), random.Random(f"power {case} {chaos_seed}")
    events = int(arena.undisturbed.notes["events"])
    for _ in range(CUTS):
        arena.reset()
        ended = arena.play(Death(event=rng.randint(max(events // 4, 1), events)))
        done = power_cut(arena, ended, rng)
        finish(arena, 1, tally, "\n".join(done))


@pytest.mark.parametrize("case", ["finetune by words", "audit", "classify by network"])
def test_caches_that_lose_content_are_made_again_and_nothing_wrong_is_read(
    case: str, study: Study, tally: Tally, chaos_seed: int
):
    arena, rng = study.arena(case), random.Random(f"caches {case} {chaos_seed}")
    arena.reset()
    ended = arena.play()
    right = cached(arena.store)
    assert right
    for _ in range(2):
        done = power_cut(arena, ended, rng)
        arena.forget()
        finish(arena, 1, tally, "\n".join(done))
        assert cached(arena.store) == right, done


@pytest.mark.parametrize("case", STAGES)
def test_the_last_rename_is_lost(case: str, study: Study, tally: Tally):
    arena = study.arena(case)
    arena.reset()
    arena.play()
    for artifact in arena.built():
        artifact.rename(artifact.with_name(f"{artifact.name}.partial"))
    finish(arena, 1, tally)


def test_a_dashboard_whose_files_are_cut_stops_nobody_and_shows_nothing_twice(
    study: Study, tally: Tally, chaos_seed: int
):
    arena, rng = study.arena("classify with wandb"), random.Random(f"dashboard {chaos_seed}")
    for _ in range(2):
        arena.reset()
        death = Death(after=rng.uniform(0.5, 1.0) * arena.undisturbed.notes["seconds"])
        deaths = arena.play(death).status == -9
        done = spoil((arena.folder / "output").rglob("*.wandb"), rng)
        deaths += arena.play(death).status == -9
        finish(arena, int(deaths), tally, "\n".join(done))
        runs = sorted((arena.folder / "output" / "wandb").glob("offline-run-*"))
        assert len(runs) == 1, "earlier tries are in the last one"
        rows = [(row[STEP], *sorted(row)) for row in _history(runs[0]) if STEP in row]
        assert rows
        assert len(set(rows)) == len(rows)
