"""Who may open a page that is served here: whoever has the token of the address that the command prints, from this page alone."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Message = MutableMapping[str, Any]
Call = Callable[..., Awaitable[None]]


class Gate:
    """ASGI middleware before all else: pages, pictures, scripts and the websocket need the token.

    It comes once, in the address (`/?token=...`), and from then on as a cookie that scripts cannot read and that browsers do
    not send for other sites. What is asked for without it, or by a page of another origin, is answered 403.

    Attributes:
        token: as `new_token` makes them.
        cookie: its name; browsers keep cookies by host, so that pages at two ports of one need two names.
    """

    def __init__(self, app: Call, token: str, cookie: str) -> None:
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Message, receive: Call, send: Call) -> None:
        if scope["type"] not in ("http", "websocket"):  # starting and ending
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["type"] == "http" and scope["path"] == "/" and self.is_token(given):
            kept = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            return await _answer(
                send, 303, {"location": "/", "set-cookie": kept, "referrer-policy": "no-referrer"}
            )
        if self.is_token(self.cookie_of(headers)) and _same_origin(headers):
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send(
                {"type": "websocket.close", "code": 1008}
            )  # before it is accepted: a server says 403
        return await _answer(
            send, 403, {}, b"Open the address that the command has printed: it holds a token.\n"
        )

    def is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    def cookie_of(self, headers: Message) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""


def new_token() -> str:
    """256 random bits as 43 letters, digits, - and _."""
    return secrets.token_urlsafe(32)


def _same_origin(headers: Message) -> bool:
    """Whether the request comes from a page of this address: browsers tell the page's for websockets and for what changes
    something, and pages at other ports of this machine count as the same site for cookies."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


async def _answer(send: Call, status: int, headers: Message, body: bytes = b"") -> None:
    lines = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store", **headers}
    fields = [(name.encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
