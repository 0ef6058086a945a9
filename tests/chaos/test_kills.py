"""SIGKILL in every stage: at random moments, and just before each of the last changes of its files."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from chaos.conftest import Tally, finish
from chaos.harness import STAGES, Arena, Death, Study

from skinaug.models.checkpoints import newest

pytestmark = pytest.mark.chaos

LATE, SPREAD, CHAINS, LINKS = 5, 3, 2, 3


@pytest.mark.parametrize("case", [*STAGES, "gc"])
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
        assert ended.status in (-9, 0), f"event {event} of {events}: {ended.output[-2000:]}"
        finish(arena, int(ended.status == -9), tally)  # threads may have spared a change, and it its life


@pytest.mark.parametrize("case", [*STAGES, "gc"])
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
        pictures, step = drawn(arena), saved_step(arena)
        ended = finish(arena, deaths, tally)
        if case == "generate":
            assert pictures.items() <= drawn(arena).items(), "what lay whole is not drawn again"
        if case in ("finetune by words", "finetune by LoRA", "finetune all") and step:
            assert ended.notes["steps"] == arena.undisturbed.notes["steps"] - step


def drawn(arena: Arena) -> dict[str, int]:
    """Pictures of the pool, and which file on the disk each is."""
    return {path.name: path.stat().st_ino for path in (arena.store / "generate").rglob("*.png")}


def saved_step(arena: Arena) -> int:
    """The step of the checkpoint that a fine-tuning goes on from."""
    found = [newest(folder) for folder in arena.store.glob("finetune/*.partial/checkpoints")]
    return max((int(path.stem.partition("=")[2]) for path in found if path), default=0)


@pytest.mark.parametrize("stage", ["finetune", "classify", "generate"])
def test_a_terminated_stage_saves_what_it_has_and_goes_on_from_there(
    stage: str, study: Study, tally: Tally, chaos_seed: int
):
    case = {"finetune": "finetune by LoRA", "classify": "classify by network", "generate": "generate"}[stage]
    arena, rng = study.arena(case), random.Random(f"sigterm {stage} {chaos_seed}")
    command = replace(
        arena, target="command line", cfg={"arguments": [stage, *study.overrides(arena.folder, case)]}
    )
    arena.reset()
    started = time.monotonic()
    assert command.start().wait().status == 0
    seconds = time.monotonic() - started
    terminated = 0
    for _ in range(10):
        arena.reset()
        running = command.start()
        running.process.join(seconds * rng.uniform(0.3, 0.9))
        with suppress(ProcessLookupError):  # it was faster than before
            os.kill(running.process.pid, signal.SIGTERM)
        ended = running.wait()
        assert ended.status in (0, 143), f"{ended.status}: {ended.output[-3000:]}"
        if ended.status == 143:
            terminated += 1
            assert not arena.differences() or not list(arena.store.rglob("*.lock")), "the lease is given back"
            resumed = finish(arena, 1, tally)
            total = arena.undisturbed.notes["steps"]
            assert ended.notes["steps"] + resumed.notes["steps"] == total, "no step was lost or done twice"
    assert terminated >= 2
