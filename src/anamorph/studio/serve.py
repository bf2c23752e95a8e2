"""Start the studio: its address, its server, and a browser."""

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
    """Return the token that requests need: the given one, or a new one if other machines could reach the studio without."""
    return token or ("" if host in LOOPBACK else secrets.token_urlsafe(24))


def address_of(host: str, port: int, token: str) -> str:
    """Return the address of the page."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/{f'?token={token}' if token else ''}"


def server_of(app: Any, sock: socket.socket) -> tuple[Any, Callable[[], None]]:
    """Return a server of an application on a socket, and a function that runs it until its `should_exit` is set."""
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
    """Return a socket that is bound to a host and port (0: any free port).

    Raises:
        UserError: if the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise UserError(
            f"cannot listen at {host} port {port}: {error.strerror or error}; choose another port (--port)"
        ) from error
    return sock


def serve(runs: Sequence[Path], host: str, port: int, token: str, browse: bool, say: Callable[[str], None]) -> None:
    """Serve the studio until it is interrupted.

    Args:
        runs: folders of runs, or folders that contain them.
        host: address to listen on.
        port: to listen on; 0: any free one.
        token: required of every request; empty: see `token_for`.
        browse: whether a browser is opened.
        say: prints a line.

    Raises:
        UserError: if there is no run, the address cannot be used, or a package is not installed.
    """
    try:
        from anamorph.studio.app import create_app
    except ImportError as error:
        raise UserError(
            f'the studio needs a package that is not installed ({error.name}): pip install "anamorph[studio]"'
        ) from error
    from anamorph.studio.service import Service, find_runs

    service = Service(find_runs(runs))
    required = token_for(host, token)
    everywhere = host in ("0.0.0.0", "::")
    sock = _listen(host, port)
    address = address_of("127.0.0.1" if everywhere else host, sock.getsockname()[1], required)
    app = create_app(service, required, () if everywhere else {*LOOPBACK, host} if host in LOOPBACK else {host})
    _, run = server_of(app, sock)
    say(f"the studio shows {len(service.runs)} run{'s' * (len(service.runs) != 1)} at {address}  (Ctrl-C ends it)")
    if host not in LOOPBACK:
        say("whoever knows this address with its token can use the studio, and nothing is encrypted")
    if browse:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    try:
        run()
    except KeyboardInterrupt:
        pass
    finally:
        sock.close()
