"""One thread per model: it loads the model, and answers what is asked of it, with one forward pass for all who wait."""

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
from anamorph.studio.limits import WAITING
from anamorph.studio.points import DecodeOptions, Point

__all__ = ["TOGETHER", "Closed", "Worker"]

T = TypeVar("T")
TOGETHER = 32
"""Pictures after which a forward pass takes up no further requests."""
log = logging.getLogger(__name__)


class Closed(Exception):
    """The worker was closed: its model was not used for long, or the studio ends."""


@dataclass(frozen=True)
class _Asked(Generic[T]):
    """Something to be done with the bench; or points to be decoded, and what is to be done with the signals."""

    future: Future[T]
    work: Callable[[Bench], T] | None = None
    points: Sequence[Point] = ()
    look: DecodeOptions = DecodeOptions()
    finish: Callable[[Signal, Tensor], T] | None = None


class Worker:
    """Asked from any thread, it answers by futures; a cancelled one is not worked on."""

    def __init__(self, open_bench: Callable[[], Bench], name: str) -> None:
        self._open = open_bench
        self._waiting: deque[_Asked[Any]] = deque()
        self._wake, self._closed = threading.Condition(), False
        self.passes = 0
        self._thread = threading.Thread(target=self._run, name=f"studio {name}", daemon=True)
        self._thread.start()

    def ask(self, work: Callable[[Bench], T]) -> Future[T]:
        """What `work` makes of the bench."""
        return self._put(_Asked(Future(), work))

    def see(self, points: Sequence[Point], look: DecodeOptions, finish: Callable[[Signal, Tensor], T]) -> Future[T]:
        """What `finish` makes of the points' signals: of what kind they are, and their values [n, ...]. They are decoded
        together with those that others wait for."""
        return self._put(_Asked(Future(), None, points, look, finish))

    def close(self) -> None:
        """Take on nothing more; what waits is told so."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _put(self, asked: _Asked[T]) -> Future[T]:
        with self._wake:
            if self._closed:
                raise Closed
            if len(self._waiting) >= WAITING:
                self._waiting = deque(waiting for waiting in self._waiting if not waiting.future.cancelled())
            if len(self._waiting) >= WAITING:
                raise UserError(f"{WAITING} requests wait for this model already: try again in a moment")
            self._waiting.append(asked)
            self._wake.notify()
        return asked.future

    def _run(self) -> None:
        bench: Bench | Exception
        try:
            bench = self._open()
        except Exception as error:  # noqa: BLE001 (told to whoever asks)
            bench = _error_text(error)
        while True:
            taken = self._take()
            if not taken:
                break
            live = [asked for asked in taken if asked.future.set_running_or_notify_cancel()]
            for asked in live:
                if isinstance(bench, Exception):
                    asked.future.set_exception(bench)
                elif asked.work is not None:
                    _settle(asked.future, asked.work, bench)
            if not isinstance(bench, Exception):
                self._show(bench, [asked for asked in live if asked.work is None])
            del taken, live  # or the last answer would be held until the next question
        for asked in self._waiting:
            asked.future.set_exception(Closed())

    def _take(self) -> list[_Asked[Any]]:
        """The next request, and those behind it that can be answered with it; nothing when closed."""
        with self._wake:
            while not self._waiting and not self._closed:
                self._wake.wait()
            if self._closed:
                return []
            taken = [self._waiting.popleft()]
            count = len(taken[0].points)
            while taken[0].work is None and self._waiting and self._waiting[0].work is None:
                count += len(self._waiting[0].points)
                if count > TOGETHER:
                    break
                taken.append(self._waiting.popleft())
            return taken

    def _show(self, bench: Bench, jobs: Sequence[_Asked[Any]]) -> None:
        """Decode the points of several requests in as few passes as their looks allow."""
        groups: dict[tuple[DecodeOptions, tuple[str, ...]], list[tuple[_Asked[Any], Codes]]] = {}
        for asked in jobs:
            try:
                codes = bench.codes(asked.points)
            except Exception as error:  # noqa: BLE001 (told to who asked)
                asked.future.set_exception(_error_text(error))
                continue
            groups.setdefault((asked.look, tuple(codes)), []).append((asked, codes))
        for (look, _), members in groups.items():
            self._decode(bench, look, members)

    def _decode(self, bench: Bench, look: DecodeOptions, members: Sequence[tuple[_Asked[Any], Codes]]) -> None:
        try:
            self.passes += 1
            signals = bench.decode(concatenate([codes for _, codes in members]), look)
        except Exception as error:  # noqa: BLE001 (told to who asked)
            if len(members) == 1:
                members[0][0].future.set_exception(_error_text(error))
            else:  # whose fault it was is found by asking one by one
                for member in members:
                    self._decode(bench, look, [member])
            return
        parts = signals.split([len(asked.points) for asked, _ in members])
        for (asked, _), part in zip(members, parts, strict=True):
            _settle(asked.future, asked.finish, bench.model.signal, part)


def _settle(future: Future[Any], work: Callable[..., Any] | None, *given: Any) -> None:
    assert work is not None
    try:
        future.set_result(work(*given))
    except Exception as error:  # noqa: BLE001 (told to who asked)
        future.set_exception(_error_text(error))


def _error_text(error: Exception) -> Exception:
    """An error as a client is to read it; what is the program's own fault is also logged."""
    if isinstance(error, UserError):
        return error
    log.error("%s", "".join(traceback.format_exception(error)))
    what = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
    return RuntimeError(f"the model failed: {type(error).__name__}{': ' if what else ''}{what}")
