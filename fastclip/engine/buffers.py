"""Buffers of rows where they are computed with, filled by a thread that reads ahead."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fastclip.engine.sources import MemoryRows, RowSource
from fastclip.engine.tuning import TUNING


class Buffers:
    """Two buffers of rows on a device, of which the second is made when it is first needed.

    Rows for a CUDA device are read into pinned memory, and `beside` must be around a call.
    """

    def __init__(self, rows: RowSource, size: int, device: torch.device) -> None:
        self._rows, self._size, self._device = rows, size, device
        self._buffers: dict[int, torch.Tensor] = {}
        self._pinned: torch.Tensor | None = None

    def fill(self, number: int, begin: int, count: int) -> torch.Tensor:
        """Read rows into the buffer whose turn it is, and return them."""
        if isinstance(self._rows, MemoryRows):
            return self._rows.rows[begin : begin + count]
        which = number % 2
        if which not in self._buffers:
            self._buffers[which] = self._empty(self._size, self._device)
        part = self._buffers[which][:count]
        if self._device.type == "cpu":
            self._rows.read(begin, part)
        else:
            self._copy(begin, part)
        return part

    def _copy(self, begin: int, part: torch.Tensor) -> None:
        step = max(1, TUNING.pinned_bytes // max(1, self._rows.row_bytes))
        if self._pinned is None:
            self._pinned = self._empty(min(step, self._size), torch.device("cpu"), pin_memory=True)
        for first in range(0, len(part), step):
            some = part[first : first + step]
            self._rows.read(begin + first, self._pinned[: len(some)])
            some.copy_(self._pinned[: len(some)])  # ends with the copy

    def _empty(self, rows: int, device: torch.device, pin_memory: bool = False) -> torch.Tensor:
        shape, dtype = (rows, self._rows.dim), self._rows.dtype
        return torch.empty(shape, dtype=dtype, device=device, pin_memory=pin_memory)


def side_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return a stream for `beside`; None on the CPU."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None


@contextmanager
def beside(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Work in a stream of its own, and end when the work has ended."""
    if stream is None:
        yield
        return
    with torch.cuda.stream(stream):
        yield
        stream.synchronize()


def wait(device: torch.device) -> None:
    """Wait until a CUDA device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
