"""Who may talk to the studio: requests from its own page, or with its token; and how much they may send."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from anamorph.studio.limits import BODY_BYTES, UPLOAD_BYTES

__all__ = ["COOKIE", "LOOPBACK", "Guard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "anamorph-studio"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
UPLOADS = ("/api/images", "/encode")
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Lets through what comes to one of the hosts that the studio is known by (another name may have been made to point here),
    from its own page or no page at all, and, where there is a token, with it: as a cookie, a header, or once in the address.
    """

    def __init__(self, app: App, hosts: Iterable[str] = LOOPBACK, token: str = "") -> None:
        self.app, self.hosts, self.token = app, frozenset(hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if scope["type"] == "websocket":
            if refused:
                await receive()
                await send({"type": "websocket.close", "code": 4403, "reason": refused})
            else:
                await self.app(scope, receive, send)
        elif refused:
            await _refuse(scope, send, 403, refused)
        elif self._arrives_with_token(scope):
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            await _answer(send, 303, "", {"location": "/", "set-cookie": cookie})
        else:
            await self._pass(scope, headers, receive, send)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> str:
        """Why a request is not let through; empty if it is."""
        host = headers.get("host", "")
        if self.hosts and _name_of(host) not in self.hosts:
            return "this studio is not known by that name: open it at the address that it printed"
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if origin is not None and changes and urlsplit(origin).netloc != host:
            return "only the studio's own page may ask for this"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and changes:
            return "only the studio's own page may ask for this"
        if self.token and not self._has_token(headers) and not self._arrives_with_token(scope):
            return "this studio needs its token: open the whole address that it printed, or send it as a bearer token"
        return ""

    def _has_token(self, headers: dict[str, str]) -> bool:
        kind, _, said = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(said.strip(), self.token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self.token)

    def _arrives_with_token(self, scope: Scope) -> bool:
        if not self.token or scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            return False
        said = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return _same(said, self.token)

    async def _pass(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        most = UPLOAD_BYTES if scope["path"].endswith(UPLOADS) else BODY_BYTES
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            await _refuse(scope, send, 413, f"a request may have {most} bytes: send less")
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return {"type": "http.disconnect"} if taken > most else message

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in present]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self.app(scope, counted, dressed)


def _name_of(host: str) -> str:
    """A Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(), b.encode())


async def _refuse(scope: Scope, send: Send, status: int, why: str) -> None:
    """In words for people, or as the API puts its errors."""
    if scope["path"].startswith("/api/"):
        await _answer(send, status, json.dumps({"error": why}), {"content-type": "application/json"})
    else:
        await _answer(send, status, why)


async def _answer(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    told = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store", **HEADERS, **(headers or {})}
    body = text.encode()
    start = [(name.encode(), value.encode("latin-1")) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": [*start, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
