"""One thread per model: it loads the model and serves requests, as many as possible with one forward pass."""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Signal
from anamorph.core.space import Codes, concatenate
from anamorph.studio.bench import Bench
from anamorph.studio.limits import QUEUED_REQUESTS
from anamorph.studio.points import DecodeOptions, Point

__all__ = ["BATCH", "Closed", "Worker"]

T = TypeVar("T")
BATCH = 32
"""Pictures of one forward pass that serves several requests."""
log = logging.getLogger(__name__)


class Closed(Exception):
    """The worker was closed: other models were used more recently, or the studio ends."""


@dataclass(frozen=True)
class _Request(Generic[T]):
    """A function of the bench; or points to be decoded, and a function of their signals."""

    future: Future[T]
    work: Callable[[Bench], T] | None = None
    points: Sequence[Point] = ()
    look: DecodeOptions = DecodeOptions()
    finish: Callable[[Signal, Tensor], T] | None = None


class Worker:
    """Serves requests from any thread, and returns futures; cancelled ones are skipped.

    Args:
        open_bench: loads the model, in the worker's thread.
        name: of the thread.
    """

    def __init__(self, open_bench: Callable[[], Bench], name: str) -> None:
        self._open = open_bench
        self._queue: deque[_Request[Any]] = deque()
        self._wake, self._closed = threading.Condition(), False
        self.passes = 0
        self._thread = threading.Thread(target=self._run, name=f"studio {name}", daemon=True)
        self._thread.start()

    def ask(self, work: Callable[[Bench], T]) -> Future[T]:
        """Request what `work` returns for the bench.

        Raises:
            Closed: if the worker was closed.
            UserError: if too many requests wait.
        """
        return self._put(_Request(Future(), work))

    def see(self, points: Sequence[Point], look: DecodeOptions, finish: Callable[[Signal, Tensor], T]) -> Future[T]:
        """Request what `finish` returns for the points' signals: their kind, and their values [n, ...].

        They are decoded in one pass with those of other requests that wait.

        Args:
            points: what is decoded.
            look: how it is decoded.
            finish: called in the worker's thread.

        Raises:
            Closed: if the worker was closed.
            UserError: if too many requests wait.
        """
        return self._put(_Request(Future(), None, points, look, finish))

    def close(self) -> None:
        """Accept no more requests; those that wait fail with `Closed`."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _put(self, request: _Request[T]) -> Future[T]:
        with self._wake:
            if self._closed:
                raise Closed
            if len(self._queue) >= QUEUED_REQUESTS:
                self._queue = deque(queued for queued in self._queue if not queued.future.cancelled())
            if len(self._queue) >= QUEUED_REQUESTS:
                raise UserError(f"{QUEUED_REQUESTS} requests wait for this model already: try again later")
            self._queue.append(request)
            self._wake.notify()
        return request.future

    def _run(self) -> None:
        bench: Bench | Exception
        try:
            bench = self._open()
        except Exception as error:  # noqa: BLE001 (every request fails with it)
            bench = _client_error(error)
        while True:
            requests = self._take()
            if not requests:
                break
            live = [request for request in requests if request.future.set_running_or_notify_cancel()]
            for request in live:
                if isinstance(bench, Exception):
                    request.future.set_exception(bench)
                elif request.work is not None:
                    _resolve(request.future, request.work, bench)
            if not isinstance(bench, Exception):
                self._decode_all(bench, [request for request in live if request.work is None])
            del requests, live  # so that the last results are not held in memory until the next request
        for request in self._queue:
            request.future.set_exception(Closed())

    def _take(self) -> list[_Request[Any]]:
        """Wait for a request; return it and those behind it that fit into one pass, or nothing once the worker is closed."""
        with self._wake:
            while not self._queue and not self._closed:
                self._wake.wait()
            if self._closed:
                return []
            taken = [self._queue.popleft()]
            count = len(taken[0].points)
            while taken[0].work is None and self._queue and self._queue[0].work is None:
                count += len(self._queue[0].points)
                if count > BATCH:
                    break
                taken.append(self._queue.popleft())
            return taken

    def _decode_all(self, bench: Bench, requests: Sequence[_Request[Any]]) -> None:
        """Decode the points of several requests, those with the same options in one pass."""
        groups: dict[tuple[DecodeOptions, tuple[str, ...]], list[tuple[_Request[Any], Codes]]] = {}
        for request in requests:
            try:
                codes = bench.codes(request.points)
            except Exception as error:  # noqa: BLE001 (the request fails with it)
                request.future.set_exception(_client_error(error))
                continue
            groups.setdefault((request.look, tuple(codes)), []).append((request, codes))
        for (look, _), members in groups.items():
            self._decode(bench, look, members)

    def _decode(self, bench: Bench, look: DecodeOptions, members: Sequence[tuple[_Request[Any], Codes]]) -> None:
        """Decode codes of several requests in one pass; if it fails, each in its own, so that only the culprit fails."""
        try:
            self.passes += 1
            signals = bench.decode(concatenate([codes for _, codes in members]), look)
        except Exception as error:  # noqa: BLE001 (the request fails with it)
            if len(members) == 1:
                members[0][0].future.set_exception(_client_error(error))
            else:
                for member in members:
                    self._decode(bench, look, [member])
            return
        parts = signals.split([len(request.points) for request, _ in members])
        for (request, _), part in zip(members, parts, strict=True):
            _resolve(request.future, request.finish, bench.model.signal, part)


def _resolve(future: Future[Any], work: Callable[..., Any] | None, *arguments: Any) -> None:
    """Set a future's result to what a function returns, or its exception to what it raises."""
    assert work is not None
    try:
        future.set_result(work(*arguments))
    except Exception as error:  # noqa: BLE001 (the request fails with it)
        future.set_exception(_client_error(error))


def _client_error(error: Exception) -> Exception:
    """Return an error with a message for the client; unexpected ones are also logged."""
    if isinstance(error, UserError):
        return error
    log.error("%s", "".join(traceback.format_exception(error)))
    text = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
    return RuntimeError(f"the model failed: {type(error).__name__}{': ' if text else ''}{text}")
