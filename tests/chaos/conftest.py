"""What the fault suite counts and prints: kills survived, bad inputs tried, races run, losses."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from chaos.harness import Arena, Ended, Study


@dataclass
class Tally:
    """Counts of a whole run of the suite; each test adds to them.

    Attributes:
        kills: processes killed (or power cuts, full disks, broken writes) after which a rerun ended as undisturbed.
        inputs: bad or hostile inputs that were refused with a clear message, or read correctly.
        races: groups of processes that built the same artifacts at once.
        losses: artifacts found lost, doubled, or half-written and taken for whole: counted just before the test fails.
    """

    kills: int = 0
    inputs: int = 0
    races: int = 0
    losses: int = 0


TALLY = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-seed", type=int, default=0, help="decides when and where faults strike")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally()


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """The counts of this run, to add to."""
    return pytestconfig.stash[TALLY]


@pytest.fixture(scope="session")
def chaos_seed(pytestconfig: pytest.Config) -> int:
    """Decides every random draw of the suite, together with the test's own name."""
    return pytestconfig.getoption("--chaos-seed")


def finish(arena: Arena, kills: int, tally: Tally, about: str = "") -> Ended:
    """Run an arena's stage to its end, after so many `kills`, and compare with an undisturbed run's."""
    ended = arena.play()
    problems = (
        [f"exit status {ended.status}: {ended.output[-3000:]}"] if ended.status else arena.differences()
    )
    tally.losses += len(problems)
    assert not problems, "\n".join([*problems, about])
    tally.kills += kills
    return ended


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """Arenas for faults, in memory where the machine lends some: every artifact is flushed to its disk."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30:
        with tempfile.TemporaryDirectory(dir=memory, prefix="chaos-", ignore_cleanup_errors=True) as folder:
            yield Study(Path(folder))
    else:
        yield Study(tmp_path_factory.mktemp("chaos"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its counts in."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = asdict(session.config.stash[TALLY])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """And the controller adds them up."""
    found = node.config.stash[TALLY]
    for name, count in getattr(node, "workeroutput", {}).get("tally", {}).items():
        setattr(found, name, getattr(found, name) + count)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(TALLY, Tally()) == Tally():
        return  # the suite did not run
    found = config.stash[TALLY]
    terminalreporter.section(f"chaos, seed {config.getoption('--chaos-seed')}")
    terminalreporter.line(
        f"kills survived {found.kills}, bad inputs tried {found.inputs}, races run {found.races}, "
        f"losses {found.losses}"
    )
