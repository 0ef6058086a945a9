"""Clocks that jump: between two tries, within one, and in the times of files."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from chaos.conftest import Tally, finish
from chaos.harness import Clock, Death, Study

pytestmark = pytest.mark.chaos

TEN_YEARS = 10 * 365.25 * 86400.0
CLOCKS = {
    "ten years back": Clock(shift=-TEN_YEARS),
    "ten years ahead": Clock(shift=TEN_YEARS),
    "running backwards": Clock(back=1.0),
}


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", ["finetune by LoRA", "generate", "score", "classify by network"])
def test_a_stage_that_a_clock_confuses_ends_as_undisturbed(
    case: str, clock: str, study: Study, tally: Tally, chaos_seed: int
):
    arena, rng = study.arena(case), random.Random(f"{clock} {case} {chaos_seed}")
    arena.reset()
    death = Death(after=rng.uniform(0.3, 0.9) * arena.undisturbed.notes["seconds"])
    deaths = arena.play(death, CLOCKS[clock]).status == -9
    scatter_times(arena.folder, rng)
    deaths += arena.play(death).status == -9
    scatter_times(arena.folder, rng)
    ended = arena.play(clock=CLOCKS[clock])
    assert ended.status == 0, ended.output
    finish(arena, int(deaths), tally)


def scatter_times(folder: Path, rng: random.Random) -> None:
    """Give every file a time in the far past or future."""
    for path in sorted(folder.rglob("*")):
        os.utime(path, (moment := rng.choice([0.0, 1.0, 4e9]), moment))
