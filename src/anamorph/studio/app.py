"""The studio as a web application: its page and its API, behind a guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from anamorph.core.errors import UserError
from anamorph.studio import api, views
from anamorph.studio.guard import LOOPBACK, Guard
from anamorph.studio.live import Live
from anamorph.studio.responses import ERRORS
from anamorph.studio.service import Service
from anamorph.studio.worker import Closed

__all__ = ["create_app"]

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ABOUT = """Points are positions in a latent space, written as JSON: {"kind": "seed", "seed": 7} is a model's sample of a seed,
{"kind": "move", "of": ..., "along": [...]} is another point moved along directions, and so on. Every route below that returns
pictures also returns codes, and the Python code that makes them (see "as")."""


@cache
def _page() -> dict[str, tuple[str, bytes]]:
    """Return every file of the page, by its address. No other file is ever read for a client."""
    contents: dict[str, tuple[str, bytes]] = {}

    def gather(folder: Traversable, at: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                gather(entry, f"{at}{entry.name}/")
            elif (kind := KINDS.get("." + entry.name.rsplit(".", 1)[-1])) is not None:
                contents[at + entry.name] = f"{kind}; charset=utf-8", entry.read_bytes()

    gather(files("anamorph.studio") / "page", "/")
    contents["/"] = contents["/index.html"]
    return contents


def create_app(service: Service, token: str = "", hosts: Iterable[str] = LOOPBACK) -> FastAPI:
    """Return the application.

    Args:
        service: the runs that it shows.
        token: required of every request; empty: none is.
        hosts: host names under which requests are accepted; empty: any.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="anamorph studio",
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=ERRORS,
        lifespan=lifespan,
    )
    app.include_router(api.router_of(service))
    app.include_router(views.router_of(service))
    _handle_errors(app)

    @app.websocket("/api/live")
    async def live(socket: WebSocket) -> None:
        await Live(socket, service).run()

    @app.get("/{path:path}", include_in_schema=False)
    def page(path: str) -> Response:
        kind, content = _page().get(f"/{path}", ("", b""))
        if not kind:
            return JSONResponse({"error": f"there is no page {path!r}: the page is at /, and the API below /api"}, 404)
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    app.add_middleware(Guard, hosts=hosts, token=token)
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(UserError)
    def user_error(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    def invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{where}: {first['msg']}" if where else first["msg"]}, 422)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.exception_handler(RuntimeError)
    def model_error(request: Request, error: RuntimeError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 500)

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "the studio failed: its terminal shows why"}, 500)

    @app.exception_handler(Closed)
    def closed(request: Request, error: Closed) -> JSONResponse:
        return JSONResponse({"error": "the model was closed meanwhile: send the request again"}, 503)
