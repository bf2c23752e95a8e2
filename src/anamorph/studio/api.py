"""What the studio answers by HTTP: pictures, codes and Python lines of points; documented by its OpenAPI description."""

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
from anamorph.studio.describe import describe, direction_set_facts
from anamorph.studio.image_media import Saved, saved
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
from anamorph.studio.responses import FILE_SENT, answering
from anamorph.studio.saved_session import Session
from anamorph.studio.service import Service
from anamorph.studio.sound_media import is_sound_file, survey_upload
from anamorph.studio.stores import digest_of
from anamorph.studio.worker import TOGETHER, Worker

__all__ = ["router_of"]

As = Literal["png", "webp", "mp4", "wav", "codes", "python"]
TYPES: dict[As, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "wav": "audio/wav",
    "codes": "application/octet-stream",
    "python": "text/x-python; charset=utf-8",
}
PICTURED = answering(*TYPES.values())
LOOK_SECONDS = 0.5
"""Between two looks at whether a client still waits for its optimisation."""
FORMATS = {"PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"}
Points = Annotated[list[Point], Field(min_length=1, max_length=GRID_SIDE**2)]


class _Body(BaseModel):
    """What all requests for pictures have. as: png, a picture or a table of them (of sounds, of their spectrograms); webp or
    mp4, a film of images, forth and back; wav, sounds one after another; codes, safetensors; python, lines that write it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    as_: Annotated[As, Field(alias="as")] = "png"
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
    """A table: each cell is its column's point with some layers (or, without layers, a share) of its row's."""

    rows: Annotated[list[Point], Field(min_length=1, max_length=GRID_SIDE)]
    columns: Annotated[list[Point], Field(min_length=1, max_length=GRID_SIDE)]
    layers: Layers | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.5


class Interpolate(_Body):
    """A strip between two points, a grid between four."""

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


def _ends(body: Interpolate) -> list[Point]:
    """Raises: UserError for three ends, or a grid with too many points."""
    if len(body.ends) == 3:
        raise UserError("a strip is between two points, a grid between four; got 3")
    ends, last = tuple(body.ends), body.steps - 1
    if len(ends) == 2:
        return [Between(ends=ends, x=i / last) for i in range(body.steps)]
    if body.steps > GRID_SIDE:
        raise UserError(f"a grid has at most {GRID_SIDE} steps, got {body.steps}")
    return [Between(ends=ends, x=i / last, y=j / last) for j in range(body.steps) for i in range(body.steps)]


class _Pictures:
    """Answers with pictures of points."""

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
            content = await asyncio.to_thread(saved, signal, x, body.as_, columns)
        end = {"python": "py", "codes": "safetensors"}.get(body.as_, body.as_)
        headers = {"content-disposition": f'inline; filename="{run}.{end}"', "cache-control": "no-store"}
        return Response(content, media_type=TYPES[body.as_], headers=headers)

    async def _signals(self, worker: Worker, points: list[Point], look: DecodeOptions) -> tuple[Signal, Tensor]:
        """The signals of points and their kind, a few at a time, so that others are answered in between."""
        signal = await asyncio.wrap_future(worker.ask(lambda b: b.fitting(len(points))))
        parts = []
        for start in range(0, len(points), TOGETHER):
            part = points[start : start + TOGETHER]
            parts.append(await asyncio.wrap_future(worker.see(part, look, lambda _, x: x)))
        return signal, torch.cat(parts)


def _safetensors(bench: Bench, codes: Codes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.safetensors"
        write_codes(path, codes, [space for space in bench.model.spaces if space.name in codes])
        return path.read_bytes()


def router_of(service: Service) -> APIRouter:
    """All routes below /api that are about points."""
    router = APIRouter(prefix="/api")
    _about_runs(router, service)
    _about_images(router, service)
    _about_points(router, service)
    _about_codes(router, service)
    return router


def _about_runs(router: APIRouter, service: Service) -> None:
    @router.get("/runs", tags=["runs"])
    def runs() -> list[dict[str, Any]]:
        """The runs of this studio."""
        return service.listed()

    @router.get("/runs/{run}", tags=["runs"])
    async def run(run: str) -> dict[str, Any]:
        """What a run's model is and can; loads it."""
        return {"id": run, **await asyncio.wrap_future(service.worker(run, renew=True).ask(describe))}

    @router.get("/runs/{run}/directions/{name}", tags=["directions"])
    async def directions(run: str, name: Annotated[str, Field(max_length=NAME)]) -> dict[str, Any]:
        """A set of directions: pca, sefa, labels:NAME, or the name of a file in the run's folder."""
        return await asyncio.wrap_future(service.worker(run).ask(lambda b: direction_set_facts(b.direction_sets, name)))

    @router.post("/runs/{run}/directions", tags=["directions"])
    async def define(run: str, group: Group) -> dict[str, Any]:
        """A direction from the mean of some points to that of others."""
        check_size([*group.towards, *group.away])
        return await asyncio.wrap_future(
            service.worker(run).ask(lambda b: direction_set_facts(b.direction_sets, b.define(group)))
        )

    @router.post("/sessions", tags=["sessions"])
    def check(session: Session) -> dict[str, Any]:
        """Whether a session's file can be opened here; it is answered as it was understood."""
        session.check()
        service.path(session.run)
        return session.model_dump(mode="json")


def _about_images(router: APIRouter, service: Service) -> None:
    def keep(content: bytes) -> dict[str, Any]:
        facts = survey_upload(content) if is_sound_file(content) else image_facts(content)
        return {"digest": service.files.put(digest_of({}, content.hex()), content), **facts}

    def image_facts(content: bytes) -> dict[str, Any]:
        try:
            seen = survey(BytesIO(content))
            kind = _kind(content)
        except BadImage as error:
            raise UserError(f"this file is {error}") from error
        if kind not in FORMATS:
            raise UserError(f"a {kind} was uploaded: PNG, JPEG, WebP, GIF, BMP and TIFF are taken")
        if seen.width * seen.height > UPLOAD_MEGAPIXELS * 1_000_000:
            raise UserError(f"{seen.width}x{seen.height} is over the limit of {UPLOAD_MEGAPIXELS} megapixels: shrink it first")
        return {"width": seen.width, "height": seen.height}

    @router.post("/images", tags=["images"], openapi_extra=FILE_SENT)
    async def upload(request: Request) -> dict[str, Any]:
        """Keep an image or sound file (WAV, FLAC, OGG), sent as the body; it is then the point {"kind": "file", "digest": ...}
        of any run of its kind."""
        return await asyncio.to_thread(keep, await request.body())

    @router.post("/runs/{run}/encode", tags=["pictures"], openapi_extra=FILE_SENT)
    async def encode(run: str, request: Request, as_: Annotated[Literal["point", "codes"], Query(alias="as")] = "point") -> Any:
        """The point of an image or sound file, sent as the body; or its codes."""
        point = FromFile(digest=(await asyncio.to_thread(keep, await request.body()))["digest"])
        worker = service.worker(run)
        if as_ == "point":
            await asyncio.wrap_future(worker.ask(lambda b: b.codes([point])))
            return {"point": point.model_dump()}
        content = await asyncio.wrap_future(worker.ask(lambda b: _safetensors(b, b.codes([point]))))
        return Response(content, media_type=TYPES["codes"])

    @router.post("/runs/{run}/original", tags=["images"], **answering(TYPES["png"], TYPES["wav"]))
    async def original(run: str, body: One) -> Response:
        """The image (PNG) or sound (WAV) that a point was encoded from, fitted to the model; and what the data say of it, by
        label, as JSON in the header `labels`."""
        asked = service.worker(run).ask(lambda b: (b.model.signal, b.original(body.point), b.labels(body.point)))
        signal, x, labels = await asyncio.wrap_future(asked)
        if x is None:
            raise UserError("only points of the kinds data and file were encoded from an image or a sound")
        kind: Saved = "png" if isinstance(signal, Image) else "wav"
        return Response(saved(signal, x, kind), media_type=TYPES[kind], headers={"labels": json.dumps(labels)})


def _kind(content: bytes) -> str:
    with Pillow.open(BytesIO(content)) as image:
        return str(image.format)


def _about_points(router: APIRouter, service: Service) -> None:
    pictures = _Pictures(service)

    @router.post("/runs/{run}/decode", tags=["pictures"], **PICTURED)
    async def decode(run: str, body: Decode) -> Response:
        """A picture of points."""
        check_size(body.points)
        return await pictures.of(run, body.points, body, body.columns)

    @router.post("/runs/{run}/draw", tags=["pictures"], **PICTURED)
    async def draw(run: str, body: Draw) -> Response:
        """Samples by seed."""
        points: list[Point] = [FromSeed(seed=body.seed + i, temperature=body.temperature) for i in range(body.n)]
        if body.psi is not None:
            points = [Truncated(of=point, psi=body.psi) for point in points]
        return await pictures.of(run, points, body, body.columns)

    @router.post("/runs/{run}/edit", tags=["pictures"], **PICTURED)
    async def edit(run: str, body: Edit) -> Response:
        """A point moved along directions."""
        check_size([body.point])
        return await pictures.of(run, [Moved(of=body.point, along=tuple(body.along))], body)

    @router.post("/runs/{run}/mix", tags=["pictures"], **PICTURED)
    async def mix(run: str, body: Mix) -> Response:
        """A table of mixed points."""
        check_size([*body.rows, *body.columns])
        points = [_cell(row, column, body) for row in body.rows for column in body.columns]
        return await pictures.of(run, points, body, len(body.columns))

    @router.post("/runs/{run}/interpolate", tags=["pictures"], **PICTURED)
    async def interpolate(run: str, body: Interpolate) -> Response:
        """A strip, a grid, or a film."""
        check_size(body.ends)
        points = _ends(body)
        return await pictures.of(run, points, body, min(body.steps, GRID_SIDE))


def _about_codes(router: APIRouter, service: Service) -> None:
    @router.post("/runs/{run}/project", tags=["pictures"])
    async def project(run: str, body: Refine, request: Request) -> dict[str, Any]:
        """The point whose image comes closest to another's, found by optimisation; answered when it has ended."""
        check_size([body.target])
        prepared = await asyncio.wrap_future(service.worker(run).ask(lambda b: prepare(b, body.target)))
        asked, stop = body.project, threading.Event()

        def work() -> Any:
            with job_slot(service.jobs):
                return refine(prepared, asked.free, asked.steps, asked.stay, stop)

        task = asyncio.create_task(asyncio.to_thread(work))
        while not (await asyncio.wait({task}, timeout=LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                stop.set()
        try:
            found = task.result()
        except Stopped:
            raise UserError("nobody waits for this any more") from None
        service.found.put(found.point.digest, found.codes)
        return {"point": found.point.model_dump(), "before": found.before, "after": found.after}

    @router.post("/runs/{run}/codes", tags=["pictures"], openapi_extra=FILE_SENT)
    async def codes(run: str, request: Request) -> dict[str, Any]:
        """The points of a file of codes (safetensors, as `decode` with "as": "codes" answers), sent as the body."""
        body = await request.body()
        return await asyncio.wrap_future(service.worker(run).ask(lambda b: _kept(b, body)))


def _kept(bench: Bench, content: bytes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.safetensors"
        path.write_bytes(content)
        try:
            found, _, _ = read_codes(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), "the file that was sent")) from error
    n = check_codes(found, bench.model.spaces)
    if n > PICTURES:
        raise UserError(f"codes of {n} images: send those of at most {PICTURES}")
    points = []
    for i in range(n):
        one = {name: value[i : i + 1].clone() for name, value in found.items()}
        points.append(FromCodes(digest=bench.found.put(digest_of(one), one)).model_dump())
    return {"points": points}
