"""What this machine can do at most, measured here: shares of it are comparable between machines."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

from fastclip import _C
from fastclip.benchmark.clock import copy_bandwidth, times

ROUNDS = 15  # the best one counts, since some are disturbed
STEPS = 1_000_000  # of a round: some milliseconds
READ_BYTES = 2**29  # by all threads together: more than the caches hold
LEAST_BYTES = 2**25  # by each thread
SIDE = 8192  # of the matrices that a device multiplies


def peaks(threads: int, *, steps: int = STEPS, read_bytes: int = READ_BYTES) -> dict[str, float]:
    """Return the peak of some threads: billions of operations, or of bytes read, a second.

    Operations are those of the instruction set in use, from registers, by number type: ``float32``,
    ``float64`` and ``int8``, a multiplication and an addition counting as two. ``int8`` is missing
    where the instruction set has none that fastclip uses.
    """
    found = {
        kind: _rate(threads, lambda kind=kind: _C.peak_steps(kind, steps))
        for kind in ("float32", "float64", "int8")
    }
    size = max(read_bytes // threads, min(LEAST_BYTES, read_bytes)) // 4
    rows = torch.ones(threads, size)
    parts = iter(rows.split(1))
    found["bytes"] = _rate(threads, lambda part: _C.peak_read(part), lambda: next(parts))
    return {kind: rate for kind, rate in found.items() if rate > 0}


def _rate(
    threads: int, work: Callable[..., float], argument: Callable[[], object] | None = None
) -> float:
    """Return the sum of what each of some threads does at best, all of them at the same time."""
    ready = Barrier(threads)
    arguments = [() if argument is None else (argument(),) for _ in range(threads)]

    def run(given: tuple[object, ...]) -> float:
        best = 0.0
        for _ in range(ROUNDS):
            ready.wait()
            begin = time.perf_counter()
            done = work(*given)
            best = max(best, done / (time.perf_counter() - begin))
        return best

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(run, arguments)) / 1e9


def device_peaks(device: torch.device, shrink: int = 1) -> dict[str, float]:
    """Return the same of a device: what torch's own products and copies reach there."""
    side = SIDE // shrink
    found = {"bytes": copy_bandwidth(device, shrink) / 1e9}
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    c, d = (x.mul(20).clamp(-127, 127).to(torch.int8) for x in (a, b))
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "float32": lambda: a @ b.T,
        "int8": lambda: torch._int_mm(c, d.T),
    }
    for kind, call in calls.items():
        try:
            found[kind] = 2 * side**3 / min(times(call, device, ROUNDS)) / 1e9
        except (AttributeError, NotImplementedError, RuntimeError):  # older devices lack int8
            continue
    return found
