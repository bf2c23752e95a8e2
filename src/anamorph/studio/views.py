"""What the panels of the page ask for beside pictures: the map, grids of codes, and how trainings are doing."""

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

from anamorph.core.errors import UserError
from anamorph.studio.bench import Bench
from anamorph.studio.code_grids import grids_of, palette, usage
from anamorph.studio.limits import MAPPED, NAME
from anamorph.studio.maps import Layout, Map, MapPart, draw_map, encode_part
from anamorph.studio.phases import phases_of
from anamorph.studio.points import Point, check_size
from anamorph.studio.responses import answering
from anamorph.studio.service import Service
from anamorph.studio.worker import Worker
from anamorph.training.folder import RunFolder

__all__ = ["router_of"]

PICTURE = re.compile(r"[A-Za-z0-9._-]{1,100}\.png")
LATELY_SECONDS = 600.0
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
LINES = 2000
"""Points of a curve that are sent; longer logs are thinned evenly."""
MAPS = 8
TOGETHER = 32
"""Images of a map that are encoded at a time."""
Count = Annotated[int, Query(ge=3, le=MAPPED)]


class Grids(BaseModel):
    model_config = ConfigDict(extra="forbid")
    point: Point
    space: Annotated[str, Field(max_length=NAME)] = ""


class _Maps:
    """The maps that were drawn last, by worker, so that a newer checkpoint gets a new one. Images are encoded a few at a time,
    between which others are answered, and once for maps of all sizes."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.kept = OrderedDict[tuple[int, int, Layout], asyncio.Task[Map]]()
        self.parts: dict[int, dict[int, MapPart]] = {}

    async def of(self, run: str, n: int, layout: Layout) -> Map:
        worker = self.service.worker(run)
        key = (id(worker), n, layout)
        if key not in self.kept or (self.kept[key].done() and self.kept[key].exception() is not None):
            self.kept[key] = asyncio.create_task(self._draw(worker, n, layout))
        self.kept.move_to_end(key)
        while len(self.kept) > MAPS:
            self.kept.popitem(last=False)
        for gone in set(self.parts) - {known for known, _, _ in self.kept}:
            del self.parts[gone]
        return await asyncio.shield(self.kept[key])

    async def _draw(self, worker: Worker, n: int, layout: Layout) -> Map:
        data = await asyncio.wrap_future(worker.ask(lambda b: b.data))
        parts = self.parts.setdefault(id(worker), {})
        for start in range(0, min(n, data.size), TOGETHER):
            if start not in parts:
                encode = partial(encode_part, start=start, count=TOGETHER)
                parts[start] = await asyncio.wrap_future(worker.ask(encode))
        wanted = [parts[start] for start in range(0, min(n, data.size), TOGETHER)]
        return await asyncio.to_thread(draw_map, wanted, data.labels, layout)


def router_of(service: Service) -> APIRouter:
    """All routes below /api that are about panels."""
    router = APIRouter(prefix="/api")
    _about_maps(router, _Maps(service))
    _about_grids(router, service)
    _about_training(router, service)
    return router


def _about_maps(router: APIRouter, maps: _Maps) -> None:
    @router.get("/runs/{run}/map", tags=["map"])
    async def map_(run: str, n: Count = 1000, layout: Layout = "pca") -> dict[str, Any]:
        """Where held-out images lie by their codes, the first n, by 32: in the plane of their two first principal components,
        or by t-SNE or UMAP, which keep neighbours together."""
        return (await maps.of(run, n, layout)).facts()

    @router.get("/runs/{run}/map/atlas", tags=["map"], **answering("image/webp"))
    async def atlas(run: str, n: Count = 1000, layout: Layout = "pca") -> Response:
        """Their thumbnails, in one WebP."""
        return Response((await maps.of(run, n, layout)).atlas, media_type="image/webp", headers={"cache-control": "no-store"})

    @router.get("/runs/{run}/map/neighbours", tags=["map"])
    async def neighbours(
        run: str,
        index: Annotated[int, Query(ge=0)],
        n: Count = 1000,
        k: Annotated[int, Query(ge=1, le=48)] = 12,
        layout: Layout = "pca",
    ) -> list[int]:
        """The images whose codes are nearest to one's, in all dimensions."""
        return (await maps.of(run, n, layout)).neighbours(index, k)


def _about_grids(router: APIRouter, service: Service) -> None:
    async def asked(run: str, body: Grids, work: Any) -> Any:
        check_size([body.point])
        return await asyncio.wrap_future(service.worker(run).ask(lambda b: work(b, body)))

    @router.post("/runs/{run}/grids", tags=["codes"])
    async def grids(run: str, body: Grids) -> dict[str, Any]:
        """The numbers in a point's grids of codes, by space."""
        return await asked(run, body, lambda b, body: grids_of(b, body.point))

    @router.post("/runs/{run}/palette", tags=["codes"], **answering("image/webp"))
    async def patches(run: str, body: Grids) -> Response:
        """What each code of a space stands for, in one WebP; its layout is in the header `layout`."""
        content, layout = await asked(run, body, lambda b, body: palette(b, body.point, body.space))
        return Response(content, media_type="image/webp", headers={"layout": json.dumps(layout), "cache-control": "no-store"})

    @router.get("/runs/{run}/usage/{space}", tags=["codes"])
    async def used(run: str, space: Annotated[str, Field(max_length=NAME)]) -> dict[str, Any]:
        """How often each code of a space is used."""

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
        """The names of the pictures that a training has left."""
        folder = RunFolder(service.path(run)).pictures
        return sorted(p.name for p in folder.glob("*.png") if PICTURE.fullmatch(p.name)) if folder.is_dir() else []

    @router.get("/runs/{run}/pictures/{name}", tags=["training"], **answering("image/png"))
    def picture(run: str, name: Annotated[str, Field(max_length=NAME)]) -> Response:
        """One of them."""
        if name not in pictures(run):
            raise UserError(f"the run has no picture {name!r}")
        content = (RunFolder(service.path(run)).pictures / name).read_bytes()
        return Response(content, media_type="image/png", headers={"cache-control": "no-cache"})

    @router.get("/runs/{run}/report", tags=["training"], **answering("text/html"))
    def report(run: str) -> Response:
        """The report of a run's evaluation, a page by itself, in which nothing can run."""
        path = RunFolder(service.path(run)).report
        if not path.is_file():
            raise UserError(f"the run has not been evaluated: anamorph evaluate {run}")
        headers = {"content-security-policy": REPORT_POLICY, "cache-control": "no-cache"}
        return Response(path.read_bytes(), media_type="text/html; charset=utf-8", headers=headers)


def _running(folder: RunFolder) -> bool:
    """Whether a training holds the run's lock, as far as the system tells; asked only where something was logged of late, so as
    not to be in the way of one that begins."""
    path, log = folder.path / "lock", folder.path / "metrics.jsonl"
    if sys.platform == "win32" or not path.is_file() or not log.is_file() or time.time() - log.stat().st_mtime > LATELY_SECONDS:
        return False
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
