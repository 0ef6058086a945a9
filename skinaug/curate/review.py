"""`skinaug review`: a local page on which people keep or reject the pictures of a pool, by keyboard."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from skinaug.curate.decisions import check_reviewer
from skinaug.curate.deck import Deck
from skinaug.curate.gate import Gate, new_token
from skinaug.curate.page import Page, known_beside
from skinaug.errors import InputError
from skinaug.images import open_image
from skinaug.manifest import Manifest

ICON = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="3" fill="#1d5c8f"/></svg>'
SHOWN_BY_BROWSERS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
SERVED_BESIDE = {"/real": "nearest", "/parent": "parent", "/mask": "mask"}  # by what `known_beside` calls it
HEADERS = {  # patients' pictures stay out of the browser's files, and a page with a picture's name is not run
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


def review(
    pool: Manifest,
    scores: pl.DataFrame | None,
    nearest: pl.DataFrame | None,
    folder: Path,
    reviewer: str,
    host: str = "127.0.0.1",
    port: int = 8321,
    open_browser: bool = True,
    made_from: pl.DataFrame | None = None,
) -> None:
    """Serve the page until Ctrl-C, to whoever has the token in the address that it prints (`skinaug.curate.gate`).

    Nothing is served but the page, the pool's pictures, the nearest photographs, parents and masks, by number; links that lead out of the pool's
    folder are not followed.

    Args:
        pool: the pictures to judge.
        scores: image_id and columns to show beside a picture, or None.
        nearest: image_id, `nearest` (absolute path of a real photograph), `similarity` in [-1, 1] and, if known,
            `nearest_label`; or None.
        folder: receives `<reviewer>.csv` (`skinaug.curate.decisions`).
        reviewer: whose decisions these are.
        host: address to listen at. The pictures may be of patients: only this machine sees them unless told otherwise, and
            then whoever reads the network reads the token and the pictures too, for nothing is encrypted.
        port: 1 to 65535.
        open_browser: open the page in the user's browser.
        made_from: image_id, `parent` and `mask` (absolute paths of the photograph that a picture was made from, and of where it was
            drawn into it; null where there is none); or None.

    Raises:
        InputError: NiceGUI is not installed, the address cannot be used, or the reviews are damaged.
    """
    check_settings(reviewer, host, port)
    import nicegui

    if len(pool) == 0:
        raise InputError("The pool is empty: there is nothing to review.")
    deck = Deck(pool, folder, reviewer)
    beside = known_beside(deck, scores, nearest, made_from)
    files = dict(zip(pool.table["image_id"], pool.paths(), strict=True))
    _serve(nicegui.app, "/pool", [files[image["image_id"]] for image in deck.images])
    for place, name in SERVED_BESIDE.items():
        _serve(nicegui.app, place, [about.get(name) for about in beside])

    @nicegui.ui.page("/", title=f"Review by {reviewer}", language="en-US")
    def page() -> None:
        Page(nicegui.ui, Deck(pool, folder, reviewer), beside).build()

    serve(nicegui, f"Review by {reviewer}", host, port, open_browser)
    deck.reload()
    judged = f"{len(deck.judged)} of {len(deck.images)} pictures are judged"
    _say(f"{judged}, in {Path(folder) / f'{reviewer}.csv'}")


def serve(nicegui: Any, title: str, host: str, port: int, open_browser: bool) -> None:
    """Serve the pages that were declared until Ctrl-C, to whoever has the token in the address that is printed."""
    page_path = f"/?token={_guard(nicegui.app, host, port)}"
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}{page_path}"
    nicegui.app.on_startup(lambda: _say(f"{title} at {address}   (Ctrl-C ends)"))
    _listen(nicegui.ui, host, port, page_path if open_browser else False)


def check_settings(reviewer: str, host: str, port: int) -> None:
    """Refuse what can be seen to be wrong before there is a pool.

    Raises:
        InputError: the name cannot name a reviewer, NiceGUI is not installed, or nothing can listen at the address.
    """
    check_reviewer(reviewer)
    check_address("review", host, port, ("review.host=", "review.port="))


def check_address(command: str, host: str, port: int, asked: tuple[str, str]) -> None:
    """Refuse an address at which no page of a command can be served.

    asked: how the command is asked for a host and a port, in front of the value.

    Raises:
        InputError: NiceGUI is not installed, or nothing can listen there.
    """
    try:
        import nicegui  # noqa: F401
    except ImportError:
        raise InputError(
            f"skinaug {command} needs NiceGUI, which is not installed: pip install 'skinaug[review]'."
        ) from None
    if not 1 <= port <= 65535:
        raise InputError(f"{asked[1]}{port} is no port: give a number from 1 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InputError(
            f"The page cannot be opened at {asked[0]}{host}, {asked[1]}{port}: {error.strerror or error}. Another "
            f"page may be running there: end it, or choose another port with {asked[1]}<number>."
        ) from None


def _serve(app: Any, prefix: str, paths: list[Any]) -> None:
    """Serve these files by their number, and none else: not what a link put in the place of one leads to, either."""
    from fastapi import HTTPException
    from fastapi.responses import FileResponse, Response

    places = [path and os.path.realpath(path) for path in paths]

    @app.get(prefix + "/{number}")
    def picture(number: int) -> Any:
        place = places[number] if 0 <= number < len(places) else None
        if not place or not os.path.isfile(place) or os.path.realpath(place) != place:
            raise HTTPException(404)
        if Path(place).suffix.lower() in SHOWN_BY_BROWSERS:
            return FileResponse(place, headers=HEADERS)
        content = BytesIO()
        try:
            open_image(place).save(content, "PNG")
        except OSError as error:
            raise HTTPException(404) from error
        return Response(content.getvalue(), media_type="image/png", headers=HEADERS)


def _guard(app: Any, host: str, port: int) -> str:
    """Let in whoever has the token alone, and at this machine's address no foreign page. Returns the token."""
    if host in ("127.0.0.1", "localhost", "::1"):
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        # A foreign web page cannot reach this one by giving its own name this machine's address.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    else:
        Console().print(
            f"[yellow]host={host}: whoever reaches this machine and knows the token can see and judge the pictures.[/yellow]"
        )
    token = new_token()
    # The last one added is asked first.
    app.add_middleware(Gate, token=token, cookie=f"skinaug-review-{port}")
    return token


def _listen(ui: Any, host: str, port: int, show: str | bool) -> None:
    """Serve until Ctrl-C. show: the path that a browser opens, or False."""
    with suppress(KeyboardInterrupt):
        ui.run(
            host=host,
            port=port,
            show=show,
            reload=False,
            favicon=ICON,
            tailwind=False,
            show_welcome_message=False,
            timeout_graceful_shutdown=1,  # an open page would keep the server waiting
        )


def _say(text: str) -> None:
    """Print a line with an address or a path, which are to be copied: as it is, and unbroken."""
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
