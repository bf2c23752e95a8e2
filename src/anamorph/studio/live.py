"""Live pictures over a WebSocket. On each channel one request is computed at a time, and only the newest of the others waits.

A request is JSON text: {"channel": 0, "serial": 7, "run": "cats", "points": [...], "look": {...}}. With "project", the first
point's image is approximated by optimisation; a newer request on its channel, or {"channel": 0, "stop": true}, ends that.

A response is binary: the length of a header (4 bytes, big-endian), the header, and its parts. The header is JSON with the
channel, the serial, the parts as [[media type, bytes], ...], and further values.

An error is JSON text: {"channel", "serial", "error"}.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from fastapi import WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.studio.bench import Bench
from anamorph.studio.image_media import distance, frames
from anamorph.studio.limits import CHANNELS, MESSAGE_BYTES, PICTURES, SEED, STEPS
from anamorph.studio.points import DecodeOptions, Point, check_size
from anamorph.studio.projecting import RefinedPoint, Stopped, job_slot, prepare, refine
from anamorph.studio.service import Service
from anamorph.studio.worker import Closed

__all__ = ["Live", "Project", "Request"]

Part = tuple[str, bytes]
log = logging.getLogger(__name__)
SEND_SECONDS = 30.0
"""An optimisation ends when its client does not take a picture within this time."""
"""That a client may take for one picture of an optimisation."""


class Project(BaseModel):
    """Settings of an optimisation.

    Args:
        free: what is optimised: one code, a code per layer (w+), or also the noise maps.
        steps: number of steps.
        stay: weight of the codes' prior, which keeps them likely.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    free: Literal["w", "w+", "noise"] = "w"
    steps: Annotated[int, Field(ge=1, le=STEPS)] = 200
    stay: Annotated[float, Field(ge=0, le=100)] = 0.0


class Request(BaseModel):
    """A client's message.

    Args:
        channel: number of the channel.
        serial: number of the request; the response has the same.
        run: name of the run.
        points: what is decoded.
        look: how it is decoded.
        originals: whether the signals that the points were encoded from are sent, too, with the errors of the reconstructions.
        project: settings of an optimisation of the first point.
        stop: whether the channel's optimisation is to end.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    channel: Annotated[int, Field(ge=0, lt=CHANNELS)]
    serial: Annotated[int, Field(ge=0, le=SEED)] = 0
    run: Annotated[str, Field(max_length=200)] = ""
    points: Annotated[list[Point], Field(max_length=PICTURES)] = []
    look: DecodeOptions = DecodeOptions()
    originals: bool = False
    project: Project | None = None
    stop: bool = False


def _error_text(error: Exception) -> str:
    """Return the message that a client gets for an error."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'message'}: {first['msg']}"
    if isinstance(error, Closed):
        return "the model was closed meanwhile: send the request again"
    return (
        str(error)
        if isinstance(error, UserError | RuntimeError)
        else f"the studio failed ({type(error).__name__}): its terminal shows why"
    )


def _expected(error: Exception) -> bool:
    """Return whether an error is no failure of the program."""
    return isinstance(error, UserError | Closed)


class Live:
    """One WebSocket connection.

    Args:
        socket: the connection.
        service: the runs.
    """

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self.socket, self.service = socket, service
        self.pending: dict[int, Request] = {}
        self.tasks: dict[int, tuple[asyncio.Task[None], threading.Event]] = {}
        self.closed = False

    async def run(self) -> None:
        """Serve the connection until the client leaves; then its requests are cancelled."""
        await self.socket.accept()
        try:
            while True:
                await self._receive(await self.socket.receive())
        except WebSocketDisconnect:
            pass
        finally:
            self.closed = True
            for task, stop in self.tasks.values():
                stop.set()
                task.cancel()

    async def _receive(self, message: Any) -> None:
        """Start on a request, or let it wait for the one before it."""
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        text = message.get("text")
        if text is None or len(text) > MESSAGE_BYTES:
            await self._refuse(f"a message must be JSON text of at most {MESSAGE_BYTES // 1024} KB: send less")
            return
        try:
            request = Request.model_validate_json(text)
            check_size(request.points)
        except (ValidationError, UserError, RecursionError) as error:
            await self._refuse(
                _error_text(error)
                if not isinstance(error, RecursionError)
                else "this message is nested too deep: send a simpler point",
                text,
            )
            return
        task, stop = self.tasks.get(request.channel, (None, None))
        if task is None or stop is None or task.done():
            self._start(request)
            return
        self.pending[request.channel] = request  # replaces the one that waited before
        if request.stop or request.project:
            stop.set()

    def _start(self, request: Request) -> None:
        if request.stop or not request.points:
            return
        stop = threading.Event()
        self.tasks[request.channel] = asyncio.create_task(self._work(request, stop)), stop

    async def _work(self, request: Request, stop: threading.Event) -> None:
        """Respond to a request, then start on the one that waits on its channel."""
        try:
            await (self._project(request, stop) if request.project else self._decode(request))
        except Stopped:
            pass
        except Exception as error:
            if not _expected(error):
                log.exception("a request on the WebSocket failed", exc_info=error)
            await self._fail(request, _error_text(error))
        finally:
            pending = self.pending.pop(request.channel, None)
            if pending is not None and not self.closed:
                self._start(pending)

    async def _decode(self, request: Request) -> None:
        """Send pictures of the request's points."""
        worker = self.service.worker(request.run)
        if not request.originals:
            parts = await asyncio.wrap_future(worker.see(request.points, request.look, frames))
            await self._send(request, parts)
            return

        def compare(bench: Bench) -> tuple[list[Part], list[float]]:
            signal, decoded = bench.model.signal, bench.see(request.points, request.look)
            encoded = [bench.original(point) for point in request.points]
            originals = torch.cat([decoded[i : i + 1] if x is None else x for i, x in enumerate(encoded)])
            return [*frames(signal, decoded), *frames(signal, originals)], distance(signal, decoded, originals)

        parts, errors = await asyncio.wrap_future(worker.ask(compare))
        await self._send(request, parts, errors=errors)

    async def _project(self, request: Request, stop: threading.Event) -> None:
        """Optimise a point, and send pictures meanwhile."""
        assert request.project is not None
        options, loop = request.project, asyncio.get_running_loop()
        prepared = await asyncio.wrap_future(self.service.worker(request.run).ask(lambda b: prepare(b, request.points[0])))

        def show(image: Tensor, step: int) -> None:
            sent = self._send(request, frames(prepared.model.signal, image[None]), step=step, steps=options.steps)
            try:
                asyncio.run_coroutine_threadsafe(sent, loop).result(SEND_SECONDS)
            except TimeoutError as error:
                raise Stopped from error

        def work() -> RefinedPoint:
            with job_slot(self.service.jobs):
                return refine(prepared, options.free, options.steps, options.stay, stop, show)

        try:
            refined = await asyncio.to_thread(work)
        except asyncio.CancelledError:
            stop.set()
            raise
        self.service.stored_codes.put(refined.point.digest, refined.codes)
        parts = await asyncio.wrap_future(self.service.worker(request.run).see([refined.point], request.look, frames))
        point = refined.point.model_dump()
        await self._send(
            request, parts, point=point, before=refined.before, after=refined.after, step=options.steps, steps=options.steps
        )

    async def _send(self, request: Request, parts: list[Part], **values: Any) -> None:
        """Send a response. values: further values of its header."""
        sizes = [[kind, len(content)] for kind, content in parts]
        header = json.dumps({"channel": request.channel, "serial": request.serial, "parts": sizes, **values}).encode()
        await self._quietly(
            lambda: self.socket.send_bytes(b"".join([len(header).to_bytes(4, "big"), header, *(c for _, c in parts)]))
        )

    async def _fail(self, request: Request, message: str) -> None:
        """Send the error of a request."""
        text = json.dumps({"channel": request.channel, "serial": request.serial, "error": message})
        await self._quietly(lambda: self.socket.send_text(text))

    async def _refuse(self, message: str, text: str = "") -> None:
        """Send the error of a text that is no valid request; with its channel and serial, if it has them."""
        try:
            values = json.loads(text)
            origin = {name: values[name] for name in ("channel", "serial") if isinstance(values.get(name), int)}
        except (ValueError, AttributeError, RecursionError):
            origin = {}
        await self._quietly(lambda: self.socket.send_text(json.dumps({**origin, "error": message})))

    async def _quietly(self, send: Callable[[], Any]) -> None:
        """Send something; if the client has left, only stop its optimisations, since `run` ends the connection."""
        try:
            await send()
        except (WebSocketDisconnect, RuntimeError, OSError):
            for _, stop in self.tasks.values():
                stop.set()
