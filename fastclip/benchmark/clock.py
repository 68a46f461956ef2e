"""Times of calls on a device or on the CPU, and the memory that they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

BATCH = 5e-3  # seconds: shorter calls are timed several at a time
SLOW = 0.5  # seconds: what a first call does besides is nothing then
ENOUGH = 4.0  # seconds after which there are no more rounds


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def elapsed(call: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    """Return the seconds of one of ``repeats`` calls; on a device between events around them."""
    synchronize(device)
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / repeats
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def times(call: Callable[[], Any], device: torch.device, rounds: int) -> list[float]:
    """Return the seconds of a call in each round; a first call counts only if it is a slow one."""
    first = elapsed(call, device)
    slow = first > SLOW
    if not slow:
        first = elapsed(call, device)
    repeats = max(1, round(BATCH / max(first, 1e-6)))
    found = [first] if slow else []
    while len(found) < rounds and (not found or sum(found) * repeats < ENOUGH):
        found.append(elapsed(call, device, repeats))
    return found


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int | None:
    """Return by how much the memory of the device is larger during a call, its result included."""
    if device.type != "cuda":
        return None
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def copy_bandwidth(device: torch.device, shrink: int = 1) -> float:
    """Return the bytes per second, read and written, of a copy."""
    memory = torch.randn(2**28 // shrink, device=device)
    target = torch.empty_like(memory)
    return 2 * memory.nbytes / min(times(lambda: target.copy_(memory), device, 5))


def captured(call: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Return a CUDA graph of a call, and the memory of its result."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()  # what is only set up once must not be captured
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return graph, result
