"""The reader's page in a browser: keys, kills, narrow screens, and nothing that gives a picture away."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import reading
from serving import Served

from skinaug.curate.readers import ReaderDeck

PICTURE = "document.querySelector('.picture img')"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator:
    pytest.importorskip("nicegui", reason="NiceGUI is not installed")
    started: list[Served] = []

    def start() -> Served:
        started.append(Served(tmp_path, "ana", Path(reading.__file__)))
        started[-1].wait()
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.communicate()


def opened(browser, served: Served, width: int):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(served.address)
    ready(page)
    return page


def ready(page, at: int | None = None) -> None:
    """Wait until a picture, or that at a place, is on the screen and the page knows of it."""
    place = "" if at is None else f" && {PICTURE}.src.endsWith('/picture/{at}')"
    page.wait_for_function(f"{PICTURE} && {PICTURE}.complete && {PICTURE}.naturalWidth > 0{place}")
    page.wait_for_timeout(100)


def test_answers_by_key_and_button_survive_a_kill_and_give_nothing_away(serve, browser, tmp_path: Path):
    drawn = reading.small_test(tmp_path)
    deck = ReaderDeck(drawn.table, tmp_path / "answers", "ana")

    def on_disk() -> list[str]:
        deck.reload()
        return list(deck.answers.values())

    served = serve()
    page = opened(browser, served, 1020)
    for number, key in enumerate("142"):
        ready(page, number)
        page.keyboard.press(key)
        page.wait_for_function(f"{PICTURE}.src.endsWith('/picture/{number + 1}')")
        assert on_disk() == list("142")[: number + 1]
    ready(page, 3)
    page.keyboard.press("u")
    ready(page, 2)
    assert on_disk() == ["1", "4"]
    page.click("text=Surely synthetic")
    ready(page, 3)
    page.keyboard.press("Control+1")
    page.keyboard.press("5")
    page.wait_for_timeout(200)
    assert on_disk() == ["1", "4", "4"]
    source = page.content() + page.inner_text("body")
    for image in deck.images:
        assert image["image_id"] not in source
        assert image["sha256"] not in source
    assert not re.search(r"synthetic-|real-|/pool|/real", source)
    served.end(signal.SIGKILL)

    served = serve()
    page = opened(browser, served, 412)
    ready(page, 3)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator(".answers button").last.bounding_box()["y"] < 900, "answers are on the first screen"
    for number in range(3, 12):
        ready(page, number)
        page.keyboard.press("3")
    page.wait_for_selector("text=All answered")
    assert on_disk() == ["1", "4", "4"] + ["3"] * 9
    assert [served.status(path) for path in ("/picture/0", "/picture/11", "/picture/12", "/pool/0")] == [
        200, 200, 404, 404
    ]  # fmt: skip
    page.close()
