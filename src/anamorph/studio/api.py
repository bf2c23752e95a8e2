"""The HTTP API of points: their pictures, codes and Python code. Its OpenAPI description documents it."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from fastapi import APIRouter, Query, Request, Response
from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Image, Signal
from anamorph.core.space import Codes, check_codes, read_codes, write_codes
from anamorph.data.decode_image import BadImage, survey
from anamorph.studio.bench import Bench
from anamorph.studio.code import python_of
from anamorph.studio.describe import describe, describe_directions
from anamorph.studio.image_media import FileKind, encode_signals
from anamorph.studio.limits import FILM_FRAMES, GRID_SIDE, NAME, PICTURES, SEED, UPLOAD_MEGAPIXELS
from anamorph.studio.live import Project
from anamorph.studio.points import (
    Along,
    Between,
    DecodeOptions,
    FromCodes,
    FromFile,
    FromSeed,
    Group,
    Layers,
    Mixed,
    Moved,
    Point,
    Truncated,
    check_size,
)
from anamorph.studio.projecting import Stopped, job_slot, prepare, refine
from anamorph.studio.responses import FILE_BODY, binary_response
from anamorph.studio.saved_session import Session
from anamorph.studio.service import Service
from anamorph.studio.sound_media import is_sound_file, survey_upload
from anamorph.studio.stores import digest_of
from anamorph.studio.worker import BATCH, Worker

__all__ = ["router_of"]

Format = Literal["png", "webp", "mp4", "wav", "codes", "python"]
TYPES: dict[Format, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "wav": "audio/wav",
    "codes": "application/octet-stream",
    "python": "text/x-python; charset=utf-8",
}
PICTURE_RESPONSE = binary_response(*TYPES.values())
POLL_SECONDS = 0.5
"""Interval at which it is checked whether a client still waits for its optimisation."""
IMAGE_FORMATS = {"PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"}
Points = Annotated[list[Point], Field(min_length=1, max_length=GRID_SIDE**2)]


class _Body(BaseModel):
    """Fields of all requests for pictures.

    Args:
        as_: `png`, one picture or a table of them (of sounds: of spectrograms); `webp` or `mp4`, a film of images, forwards
            and backwards; `wav`, the sounds one after another; `codes`, a safetensors file; `python`, code that makes it.
        look: how codes are decoded.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    as_: Annotated[Format, Field(alias="as")] = "png"
    look: DecodeOptions = DecodeOptions()


class Decode(_Body):
    points: Points
    columns: Annotated[int, Field(ge=1, le=PICTURES)] | None = None


class Draw(_Body):
    seed: Annotated[int, Field(ge=0, le=SEED - PICTURES)] = 0
    n: Annotated[int, Field(ge=1, le=PICTURES)] = 16
    psi: Annotated[float, Field(ge=-4, le=4)] | None = None
    temperature: Annotated[float, Field(gt=0.01, le=10)] = 1.0
    columns: Annotated[int, Field(ge=1, le=PICTURES)] | None = None


class Edit(_Body):
    point: Point
    along: Annotated[list[Along], Field(max_length=64)]


class Mix(_Body):
    """A table of style mixing: each cell has its column's code with some layers of its row's.

    Args:
        rows: points of the rows.
        columns: points of the columns.
        layers: those that come from the row; None: all layers are interpolated.
        share: how far they are interpolated towards the row, from 0 to 1.
    """

    rows: Annotated[list[Point], Field(min_length=1, max_length=GRID_SIDE)]
    columns: Annotated[list[Point], Field(min_length=1, max_length=GRID_SIDE)]
    layers: Layers | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.5


class Interpolate(_Body):
    """A strip of steps between two points, or a grid between four."""

    ends: Annotated[list[Point], Field(min_length=2, max_length=4)]
    steps: Annotated[int, Field(ge=2, le=FILM_FRAMES)] = 8


class Refine(BaseModel):
    model_config = ConfigDict(extra="forbid")
    target: Point
    project: Project = Project()


class One(BaseModel):
    model_config = ConfigDict(extra="forbid")
    point: Point


def _cell(row: Point, column: Point, body: Mix) -> Point:
    return Mixed(of=column, source=row, layers=body.layers, share=body.share)


def _steps_between(body: Interpolate) -> list[Point]:
    """Return the points between two ends, or four.

    Raises:
        UserError: for three ends, or a grid of too many points.
    """
    if len(body.ends) == 3:
        raise UserError("a strip is between two points, a grid between four; got 3 ends: leave out one, or add one")
    ends, last = tuple(body.ends), body.steps - 1
    if len(ends) == 2:
        return [Between(ends=ends, x=i / last) for i in range(body.steps)]
    if body.steps > GRID_SIDE:
        raise UserError(f"a grid has at most {GRID_SIDE} steps, got {body.steps}: ask for fewer")
    return [Between(ends=ends, x=i / last, y=j / last) for j in range(body.steps) for i in range(body.steps)]


class _Pictures:
    """Makes responses with pictures of points."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def of(self, run: str, points: list[Point], body: _Body, columns: int | None = None) -> Response:
        worker, look = self.service.worker(run), body.look
        if body.as_ == "python":
            content: bytes = await asyncio.wrap_future(worker.ask(lambda b: python_of(b, points, look, columns).encode()))
        elif body.as_ == "codes":
            content = await asyncio.wrap_future(worker.ask(lambda b: _safetensors(b, b.codes(points))))
        else:
            signal, x = await self._signals(worker, points, look)
            content = await asyncio.to_thread(encode_signals, signal, x, body.as_, columns)
        extension = {"python": "py", "codes": "safetensors"}.get(body.as_, body.as_)
        headers = {"content-disposition": f'inline; filename="{run}.{extension}"', "cache-control": "no-store"}
        return Response(content, media_type=TYPES[body.as_], headers=headers)

    async def _signals(self, worker: Worker, points: list[Point], look: DecodeOptions) -> tuple[Signal, Tensor]:
        """Return the signals of points and their kind. They are decoded in parts, so that other requests are served between."""
        signal = await asyncio.wrap_future(worker.ask(lambda b: b.check_memory(len(points))))
        parts = []
        for start in range(0, len(points), BATCH):
            part = points[start : start + BATCH]
            parts.append(await asyncio.wrap_future(worker.see(part, look, lambda _, x: x)))
        return signal, torch.cat(parts)


def _safetensors(bench: Bench, codes: Codes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.safetensors"
        write_codes(path, codes, [space for space in bench.model.spaces if space.name in codes])
        return path.read_bytes()


def router_of(service: Service) -> APIRouter:
    """Return the routes below /api that are about runs and points."""
    router = APIRouter(prefix="/api")
    _about_runs(router, service)
    _about_images(router, service)
    _about_points(router, service)
    _about_codes(router, service)
    return router


def _about_runs(router: APIRouter, service: Service) -> None:
    @router.get("/runs", tags=["runs"])
    def runs() -> list[dict[str, Any]]:
        """List the runs of this studio."""
        return service.listed()

    @router.get("/runs/{run}", tags=["runs"])
    async def run(run: str) -> dict[str, Any]:
        """Load a run's model and describe it: its signals, spaces, capabilities, phases and panels."""
        return {"id": run, **await asyncio.wrap_future(service.worker(run, renew=True).ask(describe))}

    @router.get("/runs/{run}/directions/{name}", tags=["directions"])
    async def directions(run: str, name: Annotated[str, Field(max_length=NAME)]) -> dict[str, Any]:
        """Return a set of directions: pca, sefa, labels:NAME, or the name of a file in the run's folder."""
        return await asyncio.wrap_future(service.worker(run).ask(lambda b: describe_directions(b.direction_sets, name)))

    @router.post("/runs/{run}/directions", tags=["directions"])
    async def define(run: str, group: Group) -> dict[str, Any]:
        """Make a direction from the mean of some points to that of others."""
        check_size([*group.towards, *group.away])
        return await asyncio.wrap_future(
            service.worker(run).ask(lambda b: describe_directions(b.direction_sets, b.define(group)))
        )

    @router.post("/sessions", tags=["sessions"])
    def check(session: Session) -> dict[str, Any]:
        """Check whether a session can be opened here, and return it in the present format."""
        session.check()
        service.path(session.run)
        return session.model_dump(mode="json")


def _about_images(router: APIRouter, service: Service) -> None:
    def store(content: bytes) -> dict[str, Any]:
        properties = survey_upload(content) if is_sound_file(content) else image_size(content)
        return {"digest": service.files.put(digest_of({}, content.hex()), content), **properties}

    def image_size(content: bytes) -> dict[str, Any]:
        try:
            size = survey(BytesIO(content))
            kind = _image_format(content)
        except BadImage as error:
            raise UserError(f"this file is {error}") from error
        if kind not in IMAGE_FORMATS:
            raise UserError(f"this file is a {kind}: PNG, JPEG, WebP, GIF, BMP and TIFF are taken, so convert it")
        if size.width * size.height > UPLOAD_MEGAPIXELS * 1_000_000:
            raise UserError(f"{size.width}x{size.height} is over the limit of {UPLOAD_MEGAPIXELS} megapixels: shrink it first")
        return {"width": size.width, "height": size.height}

    @router.post("/images", tags=["images"], openapi_extra=FILE_BODY)
    async def upload(request: Request) -> dict[str, Any]:
        """Store an image or sound file (WAV, FLAC, OGG), which is the body.

        From then on it is the point {"kind": "file", "digest": ...} of any run of such signals.
        """
        return await asyncio.to_thread(store, await request.body())

    @router.post("/runs/{run}/encode", tags=["pictures"], openapi_extra=FILE_BODY)
    async def encode(run: str, request: Request, as_: Annotated[Literal["point", "codes"], Query(alias="as")] = "point") -> Any:
        """Return the point of an image or sound file, which is the body; or its codes."""
        point = FromFile(digest=(await asyncio.to_thread(store, await request.body()))["digest"])
        worker = service.worker(run)
        if as_ == "point":
            await asyncio.wrap_future(worker.ask(lambda b: b.codes([point])))
            return {"point": point.model_dump()}
        content = await asyncio.wrap_future(worker.ask(lambda b: _safetensors(b, b.codes([point]))))
        return Response(content, media_type=TYPES["codes"])

    @router.post("/runs/{run}/original", tags=["images"], **binary_response(TYPES["png"], TYPES["wav"]))
    async def original(run: str, body: One) -> Response:
        """Return the image (PNG) or sound (WAV) that a point was encoded from, at the model's size.

        Its class names are JSON in the header `labels`, by label.
        """
        future = service.worker(run).ask(lambda b: (b.model.signal, b.original(body.point), b.labels(body.point)))
        signal, x, labels = await asyncio.wrap_future(future)
        if x is None:
            raise UserError(f"a point of the kind {body.point.kind} has no original: ask for one of the kinds data and file")
        kind: FileKind = "png" if isinstance(signal, Image) else "wav"
        return Response(encode_signals(signal, x, kind), media_type=TYPES[kind], headers={"labels": json.dumps(labels)})


def _image_format(content: bytes) -> str:
    with Pillow.open(BytesIO(content)) as image:
        return str(image.format)


def _about_points(router: APIRouter, service: Service) -> None:
    pictures = _Pictures(service)

    @router.post("/runs/{run}/decode", tags=["pictures"], **PICTURE_RESPONSE)
    async def decode(run: str, body: Decode) -> Response:
        """Return a picture of points."""
        check_size(body.points)
        return await pictures.of(run, body.points, body, body.columns)

    @router.post("/runs/{run}/draw", tags=["pictures"], **PICTURE_RESPONSE)
    async def draw(run: str, body: Draw) -> Response:
        """Return samples of consecutive seeds."""
        points: list[Point] = [FromSeed(seed=body.seed + i, temperature=body.temperature) for i in range(body.n)]
        if body.psi is not None:
            points = [Truncated(of=point, psi=body.psi) for point in points]
        return await pictures.of(run, points, body, body.columns)

    @router.post("/runs/{run}/edit", tags=["pictures"], **PICTURE_RESPONSE)
    async def edit(run: str, body: Edit) -> Response:
        """Return a point moved along directions."""
        check_size([body.point])
        return await pictures.of(run, [Moved(of=body.point, along=tuple(body.along))], body)

    @router.post("/runs/{run}/mix", tags=["pictures"], **PICTURE_RESPONSE)
    async def mix(run: str, body: Mix) -> Response:
        """Return a table of style mixing."""
        check_size([*body.rows, *body.columns])
        points = [_cell(row, column, body) for row in body.rows for column in body.columns]
        return await pictures.of(run, points, body, len(body.columns))

    @router.post("/runs/{run}/interpolate", tags=["pictures"], **PICTURE_RESPONSE)
    async def interpolate(run: str, body: Interpolate) -> Response:
        """Return a strip or grid of interpolated points, or a film."""
        check_size(body.ends)
        points = _steps_between(body)
        return await pictures.of(run, points, body, min(body.steps, GRID_SIDE))


def _about_codes(router: APIRouter, service: Service) -> None:
    @router.post("/runs/{run}/project", tags=["pictures"])
    async def project(run: str, body: Refine, request: Request) -> dict[str, Any]:
        """Return the point whose image comes closest to another's, by optimisation.

        `before` and `after` are the mean squared errors of the images. The response comes when the optimisation has ended.
        """
        check_size([body.target])
        prepared = await asyncio.wrap_future(service.worker(run).ask(lambda b: prepare(b, body.target)))
        options, stop = body.project, threading.Event()

        def work() -> Any:
            with job_slot(service.jobs):
                return refine(prepared, options.free, options.steps, options.stay, stop)

        task = asyncio.create_task(asyncio.to_thread(work))
        while not (await asyncio.wait({task}, timeout=POLL_SECONDS))[0]:
            if await request.is_disconnected():
                stop.set()
        try:
            refined = task.result()
        except Stopped:
            raise UserError("the client has closed the connection, so this optimisation was stopped: send it again") from None
        service.stored_codes.put(refined.point.digest, refined.codes)
        return {"point": refined.point.model_dump(), "before": refined.before, "after": refined.after}

    @router.post("/runs/{run}/codes", tags=["pictures"], openapi_extra=FILE_BODY)
    async def codes(run: str, request: Request) -> dict[str, Any]:
        """Return the points of a file of codes, which is the body: safetensors, as `decode` returns with "as": "codes"."""
        body = await request.body()
        return await asyncio.wrap_future(service.worker(run).ask(lambda b: _store_codes(b, body)))


def _store_codes(bench: Bench, content: bytes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.safetensors"
        path.write_bytes(content)
        try:
            codes, _, _ = read_codes(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), "the file that was sent")) from error
    n = check_codes(codes, bench.model.spaces)
    if n > PICTURES:
        raise UserError(f"this file has codes of {n} images: send those of at most {PICTURES}")
    points = []
    for i in range(n):
        one = {name: value[i : i + 1].clone() for name, value in codes.items()}
        points.append(FromCodes(digest=bench.stored_codes.put(digest_of(one), one)).model_dump())
    return {"points": points}
