"""Buffers of rows where they are computed with, filled by a thread that reads ahead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fastclip.data.rows import Rows


class Buffers:
    """Two buffers of rows on a device, of which the second is made when it is first needed.

    Files for a CUDA device are read into a third one in pinned memory, and `beside` must be
    around a call.
    """

    def __init__(self, rows: Rows, size: int, device: torch.device) -> None:
        self._rows, self._size, self._device = rows, size, device
        self._buffers: dict[int, torch.Tensor] = {}
        self._pinned: torch.Tensor | None = None

    def fill(self, number: int, begin: int, count: int) -> torch.Tensor:
        """Read rows into the buffer whose turn it is, and return them."""
        which = number % 2
        if which not in self._buffers:
            self._buffers[which] = self._empty(self._device)
        part = self._buffers[which][:count]
        if self._device.type == "cpu":
            self._rows.read(begin, part)
            return part
        if self._pinned is None:
            self._pinned = self._empty(torch.device("cpu"), pin_memory=True)
        self._rows.read(begin, self._pinned[:count])
        return part.copy_(self._pinned[:count], non_blocking=True)

    def _empty(self, device: torch.device, pin_memory: bool = False) -> torch.Tensor:
        shape = self._size, self._rows.dim
        return torch.empty(shape, dtype=self._rows.dtype, device=device, pin_memory=pin_memory)


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
