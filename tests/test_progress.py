"""The bar of long waits, on a terminal and off it."""

from __future__ import annotations

import io

import pytest
import rich
from rich.console import Console

from skinaug import progress
from skinaug.progress import shown


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(rich, "_console", console)
    return console


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_long_wait_shows_how_far_it_is(terminal: Console, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert list(shown(iter("abc"), "reading pictures", 3)) == ["a", "b", "c"]
    assert "reading pictures" in written(terminal)
    assert "3/3" in written(terminal)


def test_a_short_one_shows_nothing(terminal: Console):
    assert list(shown(range(3), "reading pictures")) == [0, 1, 2]
    assert written(terminal) == ""


def test_a_bar_goes_when_its_loop_is_left(terminal: Console, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    for number in shown(range(9), "outer"):
        assert list(shown("ab", "inner")) == ["a", "b"], "one within another"
        if number == 1:
            break
    with pytest.raises(ValueError, match="wrong"):
        list(shown((int("wrong") for _ in range(2)), "failing"))
    assert terminal._live_stack == []


def test_files_get_no_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(rich, "_console", Console(file=io.StringIO(), force_terminal=False))
    assert list(shown(range(3), "reading pictures")) == [0, 1, 2]
    assert rich.get_console().file.getvalue() == ""  # type: ignore[attr-defined]
