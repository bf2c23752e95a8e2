"""Starting the studio: an address, a server, a browser."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from anamorph.core.errors import UserError
from anamorph.studio.guard import LOOPBACK

__all__ = ["address_of", "serve", "server_of", "token_for"]


def token_for(host: str, token: str) -> str:
    """The token that is wanted: the one given; where others could reach the studio, never none."""
    return token or ("" if host in LOOPBACK else secrets.token_urlsafe(24))


def address_of(host: str, port: int, token: str) -> str:
    """Where the page is found."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/{f'?token={token}' if token else ''}"


def server_of(app: Any, sock: socket.socket) -> tuple[Any, Callable[[], None]]:
    """A server for an application, and what runs it until it is told to stop (`should_exit`)."""
    import uvicorn

    from anamorph.studio.limits import MESSAGE_BYTES

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=2 * MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    server = uvicorn.Server(config)
    return server, lambda: server.run(sockets=[sock])


def _listen(host: str, port: int) -> socket.socket:
    """A socket at a host and port (0: any that is free). Raises: UserError if that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise UserError(f"cannot listen at {host} port {port}: {error.strerror or error}; choose another --port") from error
    return sock


def serve(runs: Sequence[Path], host: str, port: int, token: str, browse: bool, say: Callable[[str], None]) -> None:
    """Show runs until interrupted.

    Raises: UserError if there is no run, or no listening at that address, or the extra is not installed.
    """
    try:
        from anamorph.studio.app import create_app
    except ImportError as error:
        raise UserError(
            f'the studio needs a package that is not installed ({error.name}): pip install "anamorph[studio]"'
        ) from error
    from anamorph.studio.service import Service, find_runs

    service = Service(find_runs(runs))
    wanted = token_for(host, token)
    anywhere = host in ("0.0.0.0", "::")
    sock = _listen(host, port)
    address = address_of("127.0.0.1" if anywhere else host, sock.getsockname()[1], wanted)
    app = create_app(service, wanted, () if anywhere else {*LOOPBACK, host} if host in LOOPBACK else {host})
    _, run = server_of(app, sock)
    say(f"the studio shows {len(service.runs)} run{'s' * (len(service.runs) != 1)} at {address}  (Ctrl-C ends it)")
    if host not in LOOPBACK:
        say("others who know this address with its token can use it; what they send is not encrypted")
    if browse:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    try:
        run()
    except KeyboardInterrupt:
        pass
    finally:
        sock.close()
