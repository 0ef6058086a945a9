"""A seed that random number generators do not take is told before anything is built, whatever the command and wherever it stands."""

from __future__ import annotations

from pathlib import Path

import commands
import pytest


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["plan"], "seed=-1"),
        (["plan"], "generate.seed=1.5"),
        (["plan"], f"dataset.source.seed={2**32}"),
        (["classify"], "seed=abc"),
        (["classify", "-m", "mix=real,hybrid"], "seed=abc"),
    ],
)
def test_a_seed_that_is_none_is_told_before_anything_is_built(tmp_path: Path, command: list[str], word: str):
    done = commands.here(*command, word, cwd=tmp_path)
    told = done.stdout if command == ["plan"] else done.stderr
    assert done.returncode == 2, done.stderr
    assert f"{word}: a seed is a whole number from 0 to 4294967295." in told
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["report", "audit"])
def test_so_are_those_of_other_commands(tmp_path: Path, command: str):
    done = commands.here(
        command, f"{'report' if command == 'report' else 'audit.pool'}.seed=true", cwd=tmp_path
    )
    assert done.returncode == 2
    assert ".seed=True: a seed is a whole number" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_largest_is_taken(tmp_path: Path):
    done = commands.here("plan", f"seed={2**32 - 1}", "generate.seed=0", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
