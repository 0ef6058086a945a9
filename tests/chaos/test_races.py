"""Several processes that want the same artifacts at once: one builds each, whoever dies is replaced."""

from __future__ import annotations

import random
import time

import pytest
from chaos.conftest import Tally, finish
from chaos.harness import Study

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("case", ["everything", "score", "finetune by words", "dataset", "report"])
@pytest.mark.parametrize("count", [2, 4])
def test_racing_processes_build_once(case: str, count: int, study: Study, tally: Tally):
    arena = study.arena(case)
    arena.reset()
    racing = [arena.start() for _ in range(count)]
    ended = [process.wait() for process in racing]
    problems = [end.output[-2000:] for end in ended if end.status] + arena.differences()
    tally.losses += len(problems)
    assert not problems, "\n".join(problems)
    builders = sum(end.output.count("  building") for end in ended)
    assert case == "report" or builders == len(arena.built()), "each artifact had one builder"
    steps = sum(end.notes["steps"] for end in ended)
    assert steps == arena.undisturbed.notes["steps"], "nothing was trained twice"
    tally.races += 1
    finish(arena, 0, tally)


@pytest.mark.parametrize("case", ["everything", "score", "generate", "classify by network"])
def test_a_builder_that_dies_is_replaced_by_those_who_wait(
    case: str, study: Study, tally: Tally, chaos_seed: int
):
    arena, rng = study.arena(case), random.Random(f"race {case} {chaos_seed}")
    arena.reset()
    racing = [arena.start() for _ in range(4)]
    for process in racing[:2]:
        time.sleep(rng.uniform(0.2, 0.5) * arena.undisturbed.notes["seconds"])
        process.kill()
    ended = [process.wait() for process in racing]
    problems = [end.output[-2000:] for end in ended[2:] if end.status] + arena.differences()
    tally.losses += len(problems)
    assert not problems, "\n".join(problems)
    tally.races += 1
    tally.kills += sum(end.status == -9 for end in ended)
