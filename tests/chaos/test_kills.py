"""SIGKILL in every stage: at random moments, and just before each of the last changes of its files."""

from __future__ import annotations

import random

import pytest
from chaos.conftest import Tally
from chaos.harness import CASES, Arena, Death, Ended, Study

pytestmark = pytest.mark.chaos

LATE, SPREAD, CHAINS, LINKS = 6, 4, 3, 3


def finish(arena: Arena, kills: int, tally: Tally) -> Ended:
    """Run to the end after `kills`, and compare."""
    ended = arena.play()
    problems = [f"exit status {ended.status}: {ended.output[-2000:]}"] if ended.status else arena.differences()
    tally.losses += len(problems)
    assert not problems, "\n".join(problems)
    tally.kills += kills
    return ended


@pytest.mark.parametrize("case", CASES)
def test_a_stage_that_dies_before_a_change_of_a_file_ends_as_undisturbed(
    case: str, study: Study, tally: Tally, chaos_seed: int
):
    arena, rng = study.arena(case), random.Random(f"{case} {chaos_seed}")
    events = int(arena.undisturbed.notes["events"])
    late = range(max(events - LATE, 0) + 1, events + 1)
    spread = sorted(rng.sample(range(1, late.start), min(SPREAD, late.start - 1)))
    for event in [*spread, *late]:
        arena.reset()
        ended = arena.play(Death(event=event, torn=rng.random() < 0.5))
        assert ended.status == -9, f"event {event} of {events}: {ended.output[-2000:]}"
        finish(arena, 1, tally)


@pytest.mark.parametrize("case", CASES)
def test_a_stage_that_dies_again_and_again_ends_as_undisturbed(
    case: str, study: Study, tally: Tally, chaos_seed: int
):
    arena, rng = study.arena(case), random.Random(f"{chaos_seed} {case}")
    for _ in range(CHAINS):
        arena.reset()
        deaths = 0
        for _ in range(LINKS):
            death = Death(after=rng.uniform(0.02, arena.undisturbed.notes["seconds"]))
            deaths += arena.play(death).status == -9
        finish(arena, deaths, tally)
