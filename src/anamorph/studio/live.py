"""Pictures while something is dragged: a WebSocket on which, for each channel, one request is worked on and the newest waits.

A request is text, JSON: {"channel": 0, "serial": 7, "run": "cats", "points": [...], "look": {...}}; with "project", the first
point's image is approached by optimisation, and a newer request on its channel (or {"channel": 0, "stop": true}) ends that.
An answer is binary: the length of a header (4 bytes, big-endian), the header as JSON (channel, serial, parts: [[media type,
bytes], ...], and what is told beside), then the parts. What goes wrong is told as text: {"channel", "serial", "error"}.
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
SLOWEST_SECONDS = 30.0
"""That a client may take for one picture of an optimisation."""


class Project(BaseModel):
    """What is optimised, for how many steps, and what staying near the start weighs."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    free: Literal["w", "w+", "noise"] = "w"
    steps: Annotated[int, Field(ge=1, le=STEPS)] = 200
    stay: Annotated[float, Field(ge=0, le=100)] = 0.0


class Request(BaseModel):
    """A client's message. originals: also the images that the points were encoded from, and how far theirs are from them."""

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
    """An error in words for the client."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'message'}: {first['msg']}"
    if isinstance(error, Closed):
        return "the model was put aside meanwhile: ask again"
    return str(error) if isinstance(error, UserError | RuntimeError) else f"the studio failed: {type(error).__name__}"


def _expected(error: Exception) -> bool:
    """Whether it is the client's own, or nobody's."""
    return isinstance(error, UserError | Closed)


class Live:
    """One connection."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self.socket, self.service = socket, service
        self.waiting: dict[int, Request] = {}
        self.working: dict[int, tuple[asyncio.Task[None], threading.Event]] = {}
        self.gone = False

    async def run(self) -> None:
        """Until the client goes; then what it had asked for is dropped."""
        await self.socket.accept()
        try:
            while True:
                await self._take(await self.socket.receive())
        except WebSocketDisconnect:
            pass
        finally:
            self.gone = True
            for task, stop in self.working.values():
                stop.set()
                task.cancel()

    async def _take(self, message: Any) -> None:
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        text = message.get("text")
        if text is None or len(text) > MESSAGE_BYTES:
            await self._refuse("a message is JSON text of at most 256 KB")
            return
        try:
            request = Request.model_validate_json(text)
            check_size(request.points)
        except (ValidationError, UserError, RecursionError) as error:
            await self._refuse(_error_text(error) if not isinstance(error, RecursionError) else "nested too deep", text)
            return
        task, stop = self.working.get(request.channel, (None, None))
        if task is None or stop is None or task.done():
            self._start(request)
            return
        self.waiting[request.channel] = request  # the one that waited before is never worked on
        if request.stop or request.project:
            stop.set()

    def _start(self, request: Request) -> None:
        if request.stop or not request.points:
            return
        stop = threading.Event()
        self.working[request.channel] = asyncio.create_task(self._work(request, stop)), stop

    async def _work(self, request: Request, stop: threading.Event) -> None:
        try:
            await (self._project(request, stop) if request.project else self._see(request))
        except Stopped:
            pass
        except Exception as error:
            if not _expected(error):
                log.exception("a request on the WebSocket failed", exc_info=error)
            await self._fail(request, _error_text(error))
        finally:
            waiting = self.waiting.pop(request.channel, None)
            if waiting is not None and not self.gone:
                self._start(waiting)

    async def _see(self, request: Request) -> None:
        worker = self.service.worker(request.run)
        if not request.originals:
            parts = await asyncio.wrap_future(worker.see(request.points, request.look, frames))
            await self._send(request, parts)
            return

        def compare(bench: Bench) -> tuple[list[Part], list[float]]:
            signal, made = bench.model.signal, bench.see(request.points, request.look)
            originals = [bench.original(point) for point in request.points]
            first = torch.cat([made[i : i + 1] if x is None else x for i, x in enumerate(originals)])
            return [*frames(signal, made), *frames(signal, first)], distance(signal, made, first)

        parts, errors = await asyncio.wrap_future(worker.ask(compare))
        await self._send(request, parts, errors=errors)

    async def _project(self, request: Request, stop: threading.Event) -> None:
        assert request.project is not None
        asked, loop = request.project, asyncio.get_running_loop()
        prepared = await asyncio.wrap_future(self.service.worker(request.run).ask(lambda b: prepare(b, request.points[0])))

        def show(image: Tensor, step: int) -> None:
            sent = self._send(request, frames(prepared.model.signal, image[None]), step=step, steps=asked.steps)
            try:
                asyncio.run_coroutine_threadsafe(sent, loop).result(SLOWEST_SECONDS)
            except TimeoutError as error:
                raise Stopped from error

        def work() -> RefinedPoint:
            with job_slot(self.service.jobs):
                return refine(prepared, asked.free, asked.steps, asked.stay, stop, show)

        try:
            found = await asyncio.to_thread(work)
        except asyncio.CancelledError:
            stop.set()
            raise
        self.service.found.put(found.point.digest, found.codes)
        parts = await asyncio.wrap_future(self.service.worker(request.run).see([found.point], request.look, frames))
        point = found.point.model_dump()
        await self._send(
            request, parts, point=point, before=found.before, after=found.after, step=asked.steps, steps=asked.steps
        )

    async def _send(self, request: Request, parts: list[Part], **facts: Any) -> None:
        sizes = [[kind, len(content)] for kind, content in parts]
        header = json.dumps({"channel": request.channel, "serial": request.serial, "parts": sizes, **facts}).encode()
        await self._quietly(
            lambda: self.socket.send_bytes(b"".join([len(header).to_bytes(4, "big"), header, *(c for _, c in parts)]))
        )

    async def _fail(self, request: Request, what: str) -> None:
        text = json.dumps({"channel": request.channel, "serial": request.serial, "error": what})
        await self._quietly(lambda: self.socket.send_text(text))

    async def _refuse(self, what: str, text: str = "") -> None:
        """Tell of a message that is no request; on its channel, if that can be made out."""
        try:
            said = json.loads(text)
            place = {name: said[name] for name in ("channel", "serial") if isinstance(said.get(name), int)}
        except (ValueError, AttributeError, RecursionError):
            place = {}
        await self._quietly(lambda: self.socket.send_text(json.dumps({**place, "error": what})))

    async def _quietly(self, send: Callable[[], Any]) -> None:
        """Send, unless the client has gone, which ends the connection elsewhere."""
        try:
            await send()
        except (WebSocketDisconnect, RuntimeError, OSError):
            for _, stop in self.working.values():
                stop.set()
