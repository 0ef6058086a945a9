"""What the fault suite counts and prints: kills survived, bad inputs tried, races run, losses."""

from __future__ import annotations

from dataclasses import dataclass

import pytest


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(TALLY, Tally()) == Tally():
        return  # the suite did not run
    found = config.stash[TALLY]
    terminalreporter.section(f"chaos, seed {config.getoption('--chaos-seed')}")
    terminalreporter.line(
        f"kills survived {found.kills}, bad inputs tried {found.inputs}, races run {found.races}, "
        f"losses {found.losses}"
    )
