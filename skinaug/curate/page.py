"""The review page of one browser tab: what it shows of a deck of pictures, and what its keys and buttons do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from skinaug.curate.decisions import IMAGE, agreement, read_decisions
from skinaug.curate.deck import Deck
from skinaug.errors import InputError

STYLE = Path(__file__).with_name("page.css")
# Small pictures are shown as the pixels that they are; larger ones would lose whole rows of theirs.
SHARPEN = "(e) => {const i = e.target; i.style.imageRendering = i.naturalWidth < i.clientWidth ? 'pixelated' : 'auto'}"
SHARPEN_AND_TELL = f"(e) => {{({SHARPEN})(e); emit(e.target.src)}}"
RATE_OVER = 20  # decisions that the pace is taken from

ACTIONS = {  # action: keys, as the button shows them and as the browser calls them
    "keep": ("Keep", {"K": "k", "→": "arrowright"}),
    "reject": ("Reject", {"R": "r", "←": "arrowleft"}),
    "previous": ("Back", {"P": "p", "⌫": "backspace"}),
    "next": ("Skip", {"N": "n"}),
    "undo": ("Undo", {"U": "u"}),
}
KEYS = {key: action for action, (_, keys) in ACTIONS.items() for key in keys.values()}
DONE = {"keep": "Kept", "reject": "Rejected"}
SHOW = {"unreviewed": "Unreviewed", "all": "All", "rejects": "My rejects"}
HELP = (
    "A decision is saved before the next picture comes. Each reviewer has a file of their own and does not see what "
    "others decided: judge on your own."
)


def known_beside(deck: Deck, *tables: pl.DataFrame | None) -> list[dict[str, Any]]:
    """What is known of each picture besides its row, in the deck's order; the columns of `nearest` and of what pictures were made
    from apart from scores."""
    scores, nearest, made_from = tables
    found: dict[str, dict[str, Any]] = {image["image_id"]: {} for image in deck.images}
    for name, table in (("scores", scores), (None, nearest), (None, made_from)):
        for row in table.iter_rows(named=True) if table is not None else ():
            image_id = row.pop("image_id")
            if image_id in found:
                found[image_id].update({name: row} if name else row)
    return [found[image["image_id"]] for image in deck.images]


class Elements:
    """What pages are made of."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui

    def box(self, name: str, tag: str = "div") -> Any:
        return self.ui.element(tag).classes(name)

    def text(self, name: str) -> Any:
        """A place for text whose `content` is escaped where it is made."""
        return self.ui.html("", sanitize=False).classes(name)

    def button(self, content: str, do: Any, argument: Any) -> Any:
        with self.ui.element("button").props("type=button").on("click", lambda: do(argument), []) as button:
            button.inside = self.ui.html(Markup.escape(content), sanitize=False)
        return button


class Page(Elements):
    """The page of one browser tab. Its elements are made once and changed in place, so that nothing flickers."""

    def __init__(self, ui: Any, deck: Deck, beside: list[dict[str, Any]]) -> None:
        super().__init__(ui)
        self.deck, self.beside = deck, beside
        self.view = "pictures"
        self.painted: int | None = None  # position of the picture that the browser has on its screen
        self.times: list[float] = []

    def build(self) -> None:
        """Make the elements."""
        ui = self.ui
        ui.add_css(STYLE.read_text())
        ui.keyboard(on_key=self.on_key, repeating=False, ignore=["input", "select", "textarea"])
        with self.box("page", "main"):
            with self.box("top", "header"):
                ui.html("<h1>Review</h1>", sanitize=False)
                self.who = self.text("who")
                with self.box("choices", "nav"):
                    self.shows = {show: self.button(name, self.on_show, show) for show, name in SHOW.items()}
                    self.shows["agreement"] = self.button("Agreement", self.on_show, "agreement")
            with self.box("pictures") as self.pictures:
                with self.box("classes", "nav"):
                    self.classes = {
                        label: self.button("", self.on_class, label) for label in (None, *self.deck.totals)
                    }
                with self.box("table"):
                    with self.box("pair") as self.pair:
                        with self.box("picture", "figure"):
                            self.title = self.text("caption")
                            self.picture = ui.element("img").props('alt="The picture to judge"')
                            self.picture.on("load", self.on_painted, js_handler=SHARPEN_AND_TELL)
                            self.picture.on("error", self.on_broken, [])
                            self.prompt = self.text("prompt")
                        with self.box("known"):
                            with self.box("origin", "figure") as self.origin:
                                ui.html("<h2>Made from</h2>", sanitize=False).classes("caption")
                                self.parent = ui.element("img").props(
                                    'alt="The photograph that it was made from"'
                                )
                                self.mask = ui.element("img").props('alt="White where it was drawn"')
                                for picture in (self.parent, self.mask):
                                    picture.on("load", js_handler=SHARPEN)
                            with self.box("photograph", "figure") as self.beside_it:
                                ui.html("<h2>Nearest real photograph</h2>", sanitize=False).classes("caption")
                                self.photograph = ui.element("img").props('alt="Nearest real photograph"')
                                self.photograph.on("load", js_handler=SHARPEN)
                                self.likeness = self.text("likeness")
                            self.scores = self.text("scores")
                    self.end = self.text("end")
                    with self.box("actions"):
                        for action, (name, keys) in ACTIONS.items():
                            hint = Markup("").join(Markup("<kbd>{}</kbd>").format(key) for key in keys)
                            button = self.button(
                                Markup("<span>{}</span>{}").format(name, hint), self.on_action, action
                            )
                            button.classes(action).props(f'aria-keyshortcuts="{" ".join(keys.values())}"')
                    self.news = self.text("news").props("aria-live=polite")
            self.agreement = self.text("agreement")
            ui.html(HELP, sanitize=False).classes("help")
        self.update()

    # What the reviewer does

    def on_key(self, event: Any) -> None:
        held = event.modifiers
        action = KEYS.get(str(event.key.name).lower())
        if (
            event.action.keydown and action and not (held.ctrl or held.alt or held.meta)
        ):  # ctrl+r reloads the page
            self.on_action(action)

    def on_action(self, action: str) -> None:
        if self.view != "pictures":
            return
        deck, news = self.deck, ""
        try:
            if action in DONE:
                # A key that was pressed before the picture was on the screen was not meant for it.
                if deck.current is None or deck.current != self.painted:
                    return
                deck.decide(action)
                self.times = [*self.times[1 - RATE_OVER :], time.monotonic()]
                news = f"{DONE[action]}."
            elif action == "undo":
                news = "Taken back." if deck.undo() else "There is no decision to take back."
            elif action == "next":
                before = deck.current
                deck.next()
                news = "This is the last one left." if before is not None and before == deck.current else ""
            else:
                deck.previous()
        except (InputError, OSError) as error:
            news = f"Not saved: {error}"
        self.update(news)

    def on_show(self, show: str) -> None:
        self.view = "agreement" if show == "agreement" else "pictures"
        if self.view == "pictures":
            self.deck.select(self.deck.label, show)
        self.update()

    def on_class(self, label: str | None) -> None:
        self.deck.select(label, self.deck.show)
        self.update()

    def on_painted(self, event: Any) -> None:
        self.painted = int(str(event.args).rpartition("/")[2])

    def on_broken(self) -> None:
        self.news.content = "This picture cannot be read: skip it."

    # What the page shows

    def update(self, news: str = "") -> None:
        """Show where the deck stands."""
        deck = self.deck
        self.who.content = Markup("by <b>{}</b> · {}").format(deck.reviewer, self.progress())
        for show, button in self.shows.items():
            chosen = show == (deck.show if self.view == "pictures" else "agreement")
            button.props["aria-pressed"] = "true" if chosen else "false"
        self.pictures.set_visibility(self.view == "pictures")
        self.agreement.set_visibility(self.view == "agreement")
        self.news.content = Markup.escape(news)
        if self.view == "agreement":
            self.agreement.content = agreement_html(own_pool(deck))
            return
        self.update_classes()
        self.pair.set_visibility(deck.current is not None)
        self.end.set_visibility(deck.current is None)
        self.end.content = self.ending()
        if deck.current is not None:
            self.update_picture(deck.current)

    def progress(self) -> str:
        judged, total = len(self.deck.judged), len(self.deck.images)
        parts = [f"{judged} of {total} judged"]
        if judged:
            parts.append(f"{list(self.deck.judged.values()).count('keep') / judged:.0%} kept")
        if len(self.times) > 2:
            pace = (len(self.times) - 1) / (self.times[-1] - self.times[0]) * 60
            parts.append(f"{pace:.0f} a minute")
        return " · ".join(parts)

    def update_classes(self) -> None:
        everything = {None: (len(self.deck.judged), len(self.deck.images))}
        for label, (judged, total) in (everything | self.deck.counts()).items():
            button = self.classes[label]
            button.props["aria-pressed"] = "true" if label == self.deck.label else "false"
            button.inside.content = Markup(
                '<span class="name">{}</span><span class="count">{}/{}</span>'
                '<span class="bar"><span style="width: {:.1f}%"></span></span>'
            ).format("All classes" if label is None else label, judged, total, 100 * judged / total)

    def update_picture(self, at: int) -> None:
        image, beside = self.deck.images[at], self.beside[at]
        label = image["label"]
        judged, total = self.deck.counts()[label]
        word = self.deck.judged.get(at)
        state = Markup('<span class="state {}">{}</span>').format(word, DONE[word]) if word else ""
        self.title.content = Markup("<h2>{}</h2>{}<span>{} of {} judged</span>").format(
            label, state, judged, total
        )
        self.picture.props["src"] = f"/pool/{at}"
        self.prompt.content = Markup("<span>Prompt</span><q>{}</q>").format(image.get("prompt") or "")
        self.origin.set_visibility(bool(beside.get("parent")))
        self.mask.set_visibility(bool(beside.get("mask")))
        for name, element in (("parent", self.parent), ("mask", self.mask)):
            if beside.get(name):
                element.props["src"] = f"/{name}/{at}"
        self.beside_it.set_visibility(bool(beside.get("nearest")))
        if beside.get("nearest"):
            self.photograph.props["src"] = f"/real/{at}"
            real = f"{beside['nearest_label']} · " if beside.get("nearest_label") else ""
            self.likeness.content = Markup("{}similarity {:.2f}").format(real, beside["similarity"])
        rows = [
            Markup("<tr><th>{}</th><td>{}</td></tr>").format(name.replace(".", " · "), _short(value))
            for name, value in (beside.get("scores") or {}).items()
        ]
        self.scores.content = Markup("<table>{}</table>").format(Markup("").join(rows)) if rows else ""

    def ending(self) -> str:
        deck = self.deck
        where = "all classes" if deck.label is None else deck.label
        if deck.show == "rejects" and not deck.queue:
            return Markup("<h2>No rejects</h2>You have rejected nothing of {}.").format(where)
        if deck.show == "unreviewed":
            return Markup("<h2>All judged</h2>Nothing is left to review of {}.").format(where)
        return Markup("<h2>The end</h2>That was the last picture of {}.").format(where)


def own_pool(deck: Deck) -> pl.DataFrame:
    """All reviewers' decisions about the deck's pictures."""
    images = pl.DataFrame([{name: image[name] for name in IMAGE} for image in deck.images])
    return read_decisions(deck.folder).join(images, on=IMAGE, how="semi")


def agreement_html(decisions: pl.DataFrame) -> str:
    """A table of pairs of reviewers, or why there is none."""
    pairs = agreement(decisions).filter(pl.col("images") > 0)
    if pairs.is_empty():
        return "<h2>Agreement</h2><p>Shown once two reviewers have judged the same pictures.</p>"
    rows = [
        Markup("<tr><th>{}</th><th>{}</th><td>{}</td><td>{:.0%}</td><td>{}</td></tr>").format(
            first, second, images, agreed, "undefined" if kappa is None else f"{kappa:.2f}"
        )
        for first, second, images, agreed, kappa in pairs.iter_rows()
    ]
    return Markup(
        "<h2>Agreement</h2><table><thead><tr><th>Reviewer</th><th>Reviewer</th><td>Both judged</td><td>Agree</td>"
        "<td>Cohen's kappa</td></tr></thead><tbody>{}</tbody></table><p>Kappa is 1 where two always agree and 0 where they "
        "agree as often as chance would have it; it is undefined while both use only one word.</p>"
    ).format(Markup("").join(rows))


def _short(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
