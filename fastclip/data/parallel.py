"""Work on several threads, results in the order of the work."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def processors() -> int:
    """How many threads read and decode by default: one per available processor, 8 at most."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone tells which ones
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)


def in_order(
    function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int | None = None
) -> Generator[R, None, None]:
    """Yield ``function(item)`` for each item, in their order, computed by some threads.

    At most ``ahead`` results wait to be taken: ``items`` may be endless. By default they are
    fewer than two for each worker, and a single worker is the caller's own thread. After an error,
    what is not begun is dropped; what is, ends first.
    """
    if ahead is None and workers == 1:
        yield from map(function, items)
        return
    most = 2 * workers - 1 if ahead is None else ahead
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fastclip")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
