"""The page of the reader's test: one picture at a time, and how sure the reader is that it is real or synthetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from skinaug.curate.page import SHARPEN_AND_TELL, STYLE, Elements
from skinaug.curate.readers import ANSWERS, ReaderDeck
from skinaug.curate.review import HEADERS, check_settings, serve
from skinaug.errors import InputError

READER_STYLE = Path(__file__).with_name("reader.css")
UNDO = ("u", "backspace")
HELP = (
    "About half of the pictures are photographs, the others were made by a computer. All are shown in one size. An answer is saved "
    "before the next picture comes; you can stop and go on later. Answer on your own, at your own pace."
)


def read_pictures(
    pictures: pl.DataFrame,
    contents: Mapping[str, bytes],
    folder: Path,
    reader: str,
    host: str = "127.0.0.1",
    port: int = 8321,
    open_browser: bool = True,
) -> ReaderDeck:
    """Serve the page until Ctrl-C. Pictures go out by their place in the reader's order, without name, class or source.

    Args:
        pictures: `readers.SHOWN` of the pictures.
        contents: their JPEG files, by image id.
        folder: receives `<reader>.csv` (`curate.decisions`, with the words of `readers.ANSWERS`).
        reader: whose answers these are.
        host, port, open_browser: as in `review.review`.

    Returns:
        the deck as the reader left it.

    Raises:
        InputError: as `review.review`.
    """
    check_settings(reader, host, port)
    import nicegui
    from fastapi import HTTPException
    from fastapi.responses import Response

    deck = ReaderDeck(pictures, folder, reader)
    files = [contents[image["image_id"]] for image in deck.images]

    @nicegui.app.get("/picture/{number}")
    def picture(number: int) -> Any:
        if not 0 <= number < len(files):
            raise HTTPException(404)
        return Response(files[number], media_type="image/jpeg", headers=HEADERS)

    @nicegui.ui.page("/", title="Real or synthetic?", language="en-US")
    def page() -> None:
        ReaderPage(nicegui.ui, ReaderDeck(pictures, folder, reader)).build()

    serve(nicegui, f"Reader's test of {reader}", host, port, open_browser)
    deck.reload()
    return deck


class ReaderPage(Elements):
    """The page of one browser tab."""

    def __init__(self, ui: Any, deck: ReaderDeck) -> None:
        super().__init__(ui)
        self.deck = deck
        self.painted: int | None = None  # position of the picture that the browser has on its screen

    def build(self) -> None:
        """Make the elements."""
        ui = self.ui
        ui.add_css(STYLE.read_text() + READER_STYLE.read_text())
        ui.keyboard(on_key=self.on_key, repeating=False, ignore=["input", "select", "textarea"])
        with self.box("page reader", "main"):
            with self.box("top", "header"):
                ui.html("<h1>Real or synthetic?</h1>", sanitize=False)
                self.who = self.text("who")
            with self.box("sheet") as self.sheet:
                with self.box("picture", "figure"):
                    self.picture = ui.element("img").props('alt="The picture to judge"')
                    self.picture.on("load", self.on_painted, js_handler=SHARPEN_AND_TELL)
                with self.box("answers"):
                    for key, name in ANSWERS.items():
                        content = Markup("<span>{}</span><kbd>{}</kbd>").format(name, key)
                        self.button(content, self.on_answer, key).props(f'aria-keyshortcuts="{key}"')
            self.end = self.text("end")
            with self.box("after"):
                content = Markup("<span>Undo</span><kbd>U</kbd>")
                self.button(content, self.on_undo, None).props(f'aria-keyshortcuts="{" ".join(UNDO)}"')
                self.news = self.text("news").props("aria-live=polite")
            ui.html(HELP, sanitize=False).classes("help")
        self.update()

    def on_key(self, event: Any) -> None:
        held, key = event.modifiers, str(event.key.name).lower()
        if not event.action.keydown or held.ctrl or held.alt or held.meta:
            return
        if key in ANSWERS:
            self.on_answer(key)
        elif key in UNDO:
            self.on_undo(None)

    def on_answer(self, word: str) -> None:
        # A key that was pressed before the picture was on the screen was not meant for it.
        if self.deck.current is None or self.deck.current != self.painted:
            return
        self.change(lambda: self.deck.answer(word), "")

    def on_undo(self, _: None) -> None:
        done = "Taken back." if self.deck.answers else "There is no answer to take back."
        self.change(self.deck.undo, done)

    def change(self, do: Callable[[], Any], news: str) -> None:
        """Do what writes to the disk, and show where that leads, or why it failed."""
        try:
            do()
        except (InputError, OSError) as error:
            news = f"Not saved: {error}"
        self.update(news)

    def on_painted(self, event: Any) -> None:
        self.painted = int(str(event.args).rpartition("/")[2])

    def update(self, news: str = "") -> None:
        """Show where the deck stands; never whether an answer was right."""
        deck, at = self.deck, self.deck.current
        self.who.content = Markup("<b>{}</b> · {} of {} answered").format(
            deck.reader, len(deck.answers), len(deck.images)
        )
        self.news.content = Markup.escape(news)
        self.sheet.set_visibility(at is not None)
        self.end.set_visibility(at is None)
        self.end.content = "<h2>All answered</h2>Thank you. This page can be closed."
        if at is not None:
            self.picture.props["src"] = f"/picture/{at}"
