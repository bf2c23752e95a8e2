"""The HTTP API of single panels: maps, grids of codes, and the progress of trainings."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import OrderedDict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from anamorph.core.errors import UserError, nearest
from anamorph.studio.bench import Bench
from anamorph.studio.code_grids import grids_of, palette, usage
from anamorph.studio.limits import MAP_IMAGES, NAME
from anamorph.studio.maps import Layout, Map, MapPart, draw_map, encode_part
from anamorph.studio.phases import phases_of
from anamorph.studio.points import Point, check_size
from anamorph.studio.responses import binary_response
from anamorph.studio.service import Service
from anamorph.studio.worker import Worker
from anamorph.training.folder import RunFolder

__all__ = ["router_of"]

PICTURE = re.compile(r"[A-Za-z0-9._-]{1,100}\.png")
RECENT_SECONDS = 600.0
"""A run that has logged nothing for so long is not training."""
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
LINES = 2000
"""Lines of a log that are sent; longer logs are thinned evenly."""
MAPS = 8
"""Maps in memory."""
BATCH = 32
"""Images of a map that are encoded at a time."""
Count = Annotated[int, Query(ge=3, le=MAP_IMAGES)]


class Grids(BaseModel):
    model_config = ConfigDict(extra="forbid")
    point: Point
    space: Annotated[str, Field(max_length=NAME)] = ""


class _Maps:
    """A cache of maps, by worker, so that a newer checkpoint gets new ones.

    Images are encoded in batches, between which other requests are served, and only once for maps of all sizes.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.maps = OrderedDict[tuple[int, int, Layout], asyncio.Task[Map]]()
        self.parts: dict[int, dict[int, MapPart]] = {}

    async def of(self, run: str, n: int, layout: Layout) -> Map:
        """Return the map of a run's first n held-out images."""
        worker = self.service.worker(run)
        key = (id(worker), n, layout)
        if key not in self.maps or (self.maps[key].done() and self.maps[key].exception() is not None):
            self.maps[key] = asyncio.create_task(self._draw(worker, n, layout))
        self.maps.move_to_end(key)
        while len(self.maps) > MAPS:
            self.maps.popitem(last=False)
        for unused in set(self.parts) - {identity for identity, _, _ in self.maps}:
            del self.parts[unused]
        return await asyncio.shield(self.maps[key])

    async def _draw(self, worker: Worker, n: int, layout: Layout) -> Map:
        data = await asyncio.wrap_future(worker.ask(lambda b: b.data))
        parts = self.parts.setdefault(id(worker), {})
        for start in range(0, min(n, data.size), BATCH):
            if start not in parts:
                encode = partial(encode_part, start=start, count=BATCH)
                parts[start] = await asyncio.wrap_future(worker.ask(encode))
        chosen = [parts[start] for start in range(0, min(n, data.size), BATCH)]
        return await asyncio.to_thread(draw_map, chosen, data.labels, layout)


def router_of(service: Service) -> APIRouter:
    """Return the routes below /api that single panels need."""
    router = APIRouter(prefix="/api")
    _about_maps(router, _Maps(service))
    _about_grids(router, service)
    _about_training(router, service)
    return router


def _about_maps(router: APIRouter, maps: _Maps) -> None:
    @router.get("/runs/{run}/map", tags=["map"])
    async def map_(run: str, n: Count = 1000, layout: Layout = "pca") -> dict[str, Any]:
        """Return the places of the first held-out images on a map: n, rounded up to a multiple of 32.

        They are placed by the first two principal components of their codes, or by t-SNE or UMAP, which keep neighbours
        together.
        """
        return (await maps.of(run, n, layout)).to_json()

    @router.get("/runs/{run}/map/atlas", tags=["map"], **binary_response("image/webp"))
    async def atlas(run: str, n: Count = 1000, layout: Layout = "pca") -> Response:
        """Return the thumbnails of a map in one WebP."""
        return Response((await maps.of(run, n, layout)).atlas, media_type="image/webp", headers={"cache-control": "no-store"})

    @router.get("/runs/{run}/map/neighbours", tags=["map"])
    async def neighbours(
        run: str,
        index: Annotated[int, Query(ge=0)],
        n: Count = 1000,
        k: Annotated[int, Query(ge=1, le=48)] = 12,
        layout: Layout = "pca",
    ) -> list[int]:
        """Return the images whose codes are nearest to those of one image, in all dimensions."""
        return (await maps.of(run, n, layout)).neighbours(index, k)


def _about_grids(router: APIRouter, service: Service) -> None:
    async def evaluate(run: str, body: Grids, work: Any) -> Any:
        check_size([body.point])
        return await asyncio.wrap_future(service.worker(run).ask(lambda b: work(b, body)))

    @router.post("/runs/{run}/grids", tags=["codes"])
    async def grids(run: str, body: Grids) -> dict[str, Any]:
        """Return a point's grids of codes, by space."""
        return await evaluate(run, body, lambda b, body: grids_of(b, body.point))

    @router.post("/runs/{run}/palette", tags=["codes"], **binary_response("image/webp"))
    async def patches(run: str, body: Grids) -> Response:
        """Return a picture of each code of a space, in one WebP, whose layout is in the header `layout`."""
        content, layout = await evaluate(run, body, lambda b, body: palette(b, body.point, body.space))
        return Response(content, media_type="image/webp", headers={"layout": json.dumps(layout), "cache-control": "no-store"})

    @router.get("/runs/{run}/usage/{space}", tags=["codes"])
    async def used(run: str, space: Annotated[str, Field(max_length=NAME)]) -> dict[str, Any]:
        """Count how often each code of a space is used."""

        def count(bench: Bench) -> dict[str, Any]:
            return usage(bench, space)

        return await asyncio.wrap_future(service.worker(run).ask(count))


def _about_training(router: APIRouter, service: Service) -> None:
    @router.get("/runs/{run}/metrics", tags=["training"])
    def metrics(run: str, after: Annotated[int, Query(ge=-1)] = -1) -> dict[str, Any]:
        """Return the lines of a run's log after this number of images, thinned where there are very many.

        With them come the phases of the training: the name, role and logged terms of each.
        """
        folder = RunFolder(service.path(run))
        log = folder.metrics()
        lines = [line for line in log if line.get("images", 0) > after]
        step = -(-len(lines) // LINES)
        return {
            "lines": lines[::step] if step > 1 else lines,
            "phases": phases_of(folder, log),
            "total": folder.config().get("images"),
            "running": _running(folder),
            "report": folder.report.is_file(),
        }

    @router.get("/runs/{run}/pictures", tags=["training"])
    def pictures(run: str) -> list[str]:
        """List the pictures that a training has made."""
        folder = RunFolder(service.path(run)).pictures
        return sorted(p.name for p in folder.glob("*.png") if PICTURE.fullmatch(p.name)) if folder.is_dir() else []

    @router.get("/runs/{run}/pictures/{name}", tags=["training"], **binary_response("image/png"))
    def picture(run: str, name: Annotated[str, Field(max_length=NAME)]) -> Response:
        """Return one of the pictures that a training has made."""
        if name not in pictures(run):
            raise UserError(f"the run has no picture {name!r}: {nearest(name, pictures(run))}")
        content = (RunFolder(service.path(run)).pictures / name).read_bytes()
        return Response(content, media_type="image/png", headers={"cache-control": "no-cache"})

    @router.get("/runs/{run}/report", tags=["training"], **binary_response("text/html"))
    def report(run: str) -> Response:
        """Return the report of a run's evaluation: a page of its own, in which no script can run."""
        path = RunFolder(service.path(run)).report
        if not path.is_file():
            raise UserError(f"this run has not been evaluated: `anamorph evaluate {run}` does that")
        headers = {"content-security-policy": REPORT_POLICY, "cache-control": "no-cache"}
        return Response(path.read_bytes(), media_type="text/html; charset=utf-8", headers=headers)


def _running(folder: RunFolder) -> bool:
    """Return whether a training holds the run's lock, as far as the system tells.

    The lock is tried only if something was logged recently, so that a training that begins does not find it taken.
    """
    path, log = folder.path / "lock", folder.path / "metrics.jsonl"
    if sys.platform == "win32" or not path.is_file() or not log.is_file() or time.time() - log.stat().st_mtime > RECENT_SECONDS:
        return False
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
