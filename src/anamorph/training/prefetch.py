"""The next batch, prepared while this one is trained on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from anamorph.core.signal import Batch, Source

__all__ = ["Prefetch"]


class Prefetch:
    """Takes batches from a source, one ahead in a thread; a wrong guess of the next position costs only time."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="anamorph-batches")
        self._guess: tuple[int, int, int] | None = None
        self._next: Future[Batch] | None = None

    def take(self, start: int, count: int, level: int) -> Batch:
        """Return a batch, as `Source.take` does, and begin to prepare the one after it."""
        ready = self._next if self._guess == (start, count, level) else None
        batch = ready.result() if ready else self.source.take(start, count, level)
        self._guess = (start + count, count, level)
        self._next = self._thread.submit(self.source.take, *self._guess)
        return batch

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
