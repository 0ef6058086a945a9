"""The review page in a browser: every key's decision is on disk, kills lose nothing, no request leaves the machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import reviewing
from serving import Served, ask
from sklearn.metrics import cohen_kappa_score

from skinaug.curate.decisions import read_own, record
from skinaug.curate.deck import Deck
from skinaug.curate.page import agreement_html
from skinaug.curate.review import review
from skinaug.errors import InputError

PICTURE = "document.querySelector('.picture img')"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator:
    pytest.importorskip("nicegui", reason="NiceGUI is not installed")
    started: list[Served] = []

    def start(reviewer: str) -> Served:
        started.append(Served(tmp_path, reviewer, Path(reviewing.__file__)))
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.communicate()


@pytest.fixture
def opened(browser) -> Iterator:
    """A function that opens the page; in the end no request of any of them may have left the machine."""
    pages, requests, faults = [], [], []

    def open_page(served: Served, width: int = 1280, height: int = 800):
        served.wait()
        page = browser.new_page(viewport={"width": width, "height": height})
        pages.append(page)
        page.on("request", lambda request: requests.append(request.url))
        page.on("websocket", lambda ws: requests.append(ws.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(served.address)
        assert page.url == f"http://127.0.0.1:{served.port}/", "the token stays in no history"
        ready(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert len(requests) > 5
    strange = [url for url in requests if not re.match(r"((http|ws)://127\.0\.0\.1:\d+/|data:|blob:)", url)]
    assert not strange
    assert not faults


def ready(page) -> int:
    """Wait until the picture is on the screen; its position in the deck."""
    page.wait_for_function(f"{PICTURE} && {PICTURE}.complete && {PICTURE}.naturalWidth > 0")
    page.wait_for_timeout(50)  # the browser tells the page of it
    return shown(page)


def shown(page) -> int:
    return int(page.get_attribute(".picture img", "src").rpartition("/")[2])


def press(page, key: str, expected: int) -> None:
    """Press a key and wait for the picture that must follow."""
    page.keyboard.press(key)
    page.wait_for_function(f"{PICTURE}.src.endsWith('/pool/{expected}')")


def test_keys_are_on_disk_before_the_next_picture_and_survive_a_kill(serve, opened, tmp_path: Path):
    served = serve("ana")
    page = opened(served)
    deck = Deck(reviewing.small_pool(tmp_path), tmp_path / "reviews", "ana")

    def on_disk() -> dict[int, str]:
        deck.reload()
        return deck.judged

    assert ready(page) == 0
    steps = [  # key, the picture that follows, decisions that are then on disk
        ("k", 1, {0: "keep"}),
        ("ArrowLeft", 2, {0: "keep", 1: "reject"}),
        ("n", 3, {0: "keep", 1: "reject"}),
        ("ArrowRight", 4, {0: "keep", 1: "reject", 3: "keep"}),
        ("u", 3, {0: "keep", 1: "reject"}),
        ("p", 2, {0: "keep", 1: "reject"}),
        ("Backspace", 1, {0: "keep", 1: "reject"}),
        ("k", 2, {0: "keep", 1: "keep"}),
        ("R", 3, {0: "keep", 1: "keep", 2: "reject"}),
    ]
    for key, follows, expected in steps:
        press(page, key, follows)
        assert on_disk() == expected, key
        assert ready(page) == follows
    page.keyboard.press("Control+k")
    page.keyboard.press("x")
    page.wait_for_timeout(200)
    assert len(on_disk()) == 3

    page.route("**/pool/4", lambda route: (time.sleep(0.5), route.continue_()))
    page.keyboard.press("k")
    page.keyboard.press("k")  # before the next picture can be seen: it judges nothing
    page.wait_for_function(f"{PICTURE}.src.endsWith('/pool/4')")
    ready(page)
    assert on_disk() == {0: "keep", 1: "keep", 2: "reject", 3: "keep"}

    page.click("button.reject")
    page.wait_for_function(f"{PICTURE}.src.endsWith('/pool/5')")
    ready(page)
    press(page, "k", 6)  # keys work after a click on a button
    served.end(signal.SIGKILL)
    before = {0: "keep", 1: "keep", 2: "reject", 3: "keep", 4: "reject", 5: "keep"}
    assert on_disk() == before
    assert os.listdir(tmp_path / "reviews") == ["ana.csv"]

    served = serve("ana")
    page = opened(served, width=390, height=844)
    assert ready(page) == 6, "goes on at the next unreviewed picture"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.click("text=My rejects")
    page.wait_for_function(f"{PICTURE}.src.endsWith('/pool/2')")
    assert "Rejected" in page.inner_text(".picture .caption")
    assert "a photograph of a blue lesion" in page.inner_text(".prompt")
    assert "0.812" in page.inner_text(".scores")
    loaded = "document.querySelectorAll('.origin img')[{}].naturalWidth > 0"
    page.wait_for_function(loaded.format(0) + " && " + loaded.format(1))

    assert [served.status(path) for path in ("/pool/0", "/real/8", "/parent/8", "/mask/0")] == [200] * 4
    refused = [
        "/pool/9",
        "/pool/-1",
        "/real/99",
        "/parent/9",
        "/mask/9",
        "/pool/%2e%2e%2fpool",
        "/pool/etc/passwd",
        "/pool/x",
        "/anything",
    ]
    assert {served.status(path) for path in refused} <= {404, 422}
    assert served.status("/", Host="evil.example") == 400, "a foreign name for this machine's address"
    said = served.end(signal.SIGINT)  # with the page open
    assert served.process.returncode == 0
    assert "6 of 9 pictures are judged" in said
    assert "Traceback" not in said
    assert on_disk() == before


def test_without_the_token_nothing_is_shown(serve, browser, tmp_path: Path):
    served = serve("ana")
    served.wait()
    token = served.address.partition("token=")[2]
    assert len(token) >= 43
    assert served.status("/") == served.status("/pool/0") == served.status("/real/0") == 200
    scripts = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    wrong = [
        {},
        {"Cookie": f"skinaug-review-{served.port}={token[:-1]}"},
        {"Cookie": f"token={token}"},
        {"Cookie": '"'},
    ]
    for path in (
        "/",
        "/pool/0",
        "/real/0",
        scripts,
        "/?token=",
        f"/?token={token}x",
        f"/pool/0?token={token}",
        "/nothing",
    ):
        assert {ask(served.port, path, headers)[0] for headers in wrong} == {403}, path
    status, headers = ask(served.port, f"/?token={token}", {})
    assert (status, headers["location"]) == (303, "/")
    assert headers["set-cookie"] == f"{served.cookie}; Path=/; HttpOnly; SameSite=Strict"
    assert served.status("/", Origin="http://127.0.0.1:9") == 403, "a page at another port"
    assert served.status("/", Origin=f"http://127.0.0.1:{served.port}") == 200

    socket_address = f"ws://127.0.0.1:{served.port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    opens = """address => new Promise(resolve => {
      const socket = new WebSocket(address);
      socket.onmessage = () => resolve(true);  // the server's first packet
      socket.onerror = socket.onclose = () => resolve(false);
    })"""
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{served.port}/")
    assert "holds a token" in page.inner_text("body")
    assert not page.evaluate(opens, socket_address)
    page.goto(served.address)
    assert page.evaluate(opens, socket_address)
    page.close()


def test_links_out_of_the_pool_are_not_served(serve, tmp_path: Path):
    pool = reviewing.small_pool(tmp_path)
    served = serve("ana")
    served.wait()
    file = pool.root / Deck(pool, tmp_path / "reviews", "ana").images[0]["path"]
    assert served.status("/pool/0") == 200
    (tmp_path / "secret.png").write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(tmp_path / "secret.png")
    assert served.status("/pool/0") == 404
    assert "out of its root" in refusal(tmp_path, pool=pool, reviewer="bo", port=served.port + 1)


def test_a_second_reviewer_sees_agreement_and_not_the_decisions(serve, opened, tmp_path: Path):
    pool = reviewing.small_pool(tmp_path)
    served, deck = serve("bo"), Deck(pool, tmp_path / "reviews", "ana")
    for word in ("keep", "keep", "reject", "keep"):
        deck.decide(word)
    page = opened(served)
    assert ready(page) == 0
    assert "0 of 9 judged" in page.inner_text(".who")
    page.click("text=Agreement")
    page.wait_for_selector("text=Shown once two reviewers have judged the same pictures")
    page.keyboard.press("k")  # no picture is shown
    page.click("text=Unreviewed")
    words = ["keep", "reject", "reject", "keep", "keep"]
    for at, word in enumerate(words):
        assert ready(page) == at
        press(page, word[0], at + 1)
    assert "Rejected" not in page.inner_text(".pictures .caption"), "of ana's or of the picture before"
    assert read_own(tmp_path / "reviews", "bo")["decision"].to_list() == words
    page.click("text=Agreement")
    page.wait_for_selector(".agreement tbody")
    cells = page.locator(".agreement tbody tr > *").all_inner_texts()
    kappa = cohen_kappa_score(["keep", "keep", "reject", "keep"], words[:4])
    assert cells == ["ana", "bo", "4", "75%", f"{kappa:.2f}"]


def test_one_word_throughout_leaves_kappa_undefined():
    rows = [("a", "0", reviewer, "keep", "") for reviewer in ("ana", "<bo>")]
    table = pl.DataFrame(rows, schema=["image_id", "sha256", "reviewer", "decision", "decided"], orient="row")
    html = agreement_html(table)
    assert "undefined" in html
    assert "&lt;bo&gt;" in html


def refusal(folder: Path, pool=None, **settings) -> str:
    pool = pool or reviewing.small_pool(folder)
    with pytest.raises(InputError) as caught:
        review(pool, None, None, folder / "reviews", open_browser=False, **settings)
    return str(caught.value)


def test_a_port_in_use_is_refused_with_what_to_do(tmp_path: Path):
    pytest.importorskip("nicegui")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refusal(tmp_path, reviewer="ana", port=port)
    assert f"review.port={port}" in message
    assert "choose another port with review.port=" in message
    assert "review.port=70000 is no port" in refusal(tmp_path, reviewer="ana", port=70000)
    assert "nowhere.invalid" in refusal(tmp_path, reviewer="ana", host="nowhere.invalid")


def test_bad_names_and_damaged_reviews_are_refused(tmp_path: Path):
    pytest.importorskip("nicegui")
    assert "'../ana' cannot name a reviewer" in refusal(tmp_path, reviewer="../ana")
    record(tmp_path / "reviews", "ana", "a", "0" * 64, "keep")
    file = tmp_path / "reviews" / "ana.csv"
    file.write_text(file.read_text().replace("keep", "kept"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "line 2 (a, kept)" in refusal(tmp_path, reviewer="ana", port=port)


def test_without_nicegui_it_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "nicegui", None)
    assert "pip install 'skinaug[review]'" in refusal(tmp_path, reviewer="ana")
