"""Access control: requests are accepted from the studio's own page or with its token, and up to a size."""

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
    """ASGI middleware that refuses requests from elsewhere.

    A request passes if its host is one of the studio's names (against DNS rebinding), if no other site's page has sent it,
    and, where there is a token, if it has that: as a cookie, as a bearer token, or once in the address.

    Args:
        app: the application that is guarded.
        hosts: the studio's host names; empty: any.
        token: what requests must have; empty: nothing.
    """

    def __init__(self, app: App, hosts: Iterable[str] = LOOPBACK, token: str = "") -> None:
        self.app, self.hosts, self.token = app, frozenset(hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        reason = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if reason:
                await receive()
                await send({"type": "websocket.close", "code": 4403, "reason": reason})
            else:
                await self.app(scope, receive, send)
        elif reason:
            await _refuse(scope, send, 403, reason)
        elif self._arrives_with_token(scope):
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            await _respond(send, 303, "", {"location": "/", "set-cookie": cookie})
        else:
            await self._pass(scope, headers, receive, send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> str:
        """Return why a request is refused; empty if it passes."""
        host = headers.get("host", "")
        if self.hosts and _host_name(host) not in self.hosts:
            return "the studio does not answer to this host name: open it at the address that it printed"
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if origin is not None and changes and urlsplit(origin).netloc != host:
            return "only the studio's own page may send this request: open the address that the studio printed"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and changes:
            return "only the studio's own page may send this request: open the address that the studio printed"
        if self.token and not self._has_token(headers) and not self._arrives_with_token(scope):
            return "this studio needs its token: open the whole address that it printed, or send the token as a bearer token"
        return ""

    def _has_token(self, headers: dict[str, str]) -> bool:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(credentials.strip(), self.token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self.token)

    def _arrives_with_token(self, scope: Scope) -> bool:
        if not self.token or scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            return False
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return _same(token, self.token)

    async def _pass(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        """Pass a request on, if it is not too large, and add security headers to the response."""
        most = UPLOAD_BYTES if scope["path"].endswith(UPLOADS) else BODY_BYTES
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            await _refuse(scope, send, 413, f"this request has {length} bytes, and at most {most} are accepted: send less")
            return
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return {"type": "http.disconnect"} if received > most else message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(scope, limited_receive, send_with_headers)


def _host_name(host: str) -> str:
    """Return a Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(a: str, b: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(a.encode(), b.encode())


async def _refuse(scope: Scope, send: Send, status: int, reason: str) -> None:
    """Respond with an error: JSON below /api, plain text elsewhere."""
    if scope["path"].startswith("/api/"):
        await _respond(send, status, json.dumps({"error": reason}), {"content-type": "application/json"})
    else:
        await _respond(send, status, reason)


async def _respond(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    fields = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store", **HEADERS, **(headers or {})}
    body = text.encode()
    start = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": [*start, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
