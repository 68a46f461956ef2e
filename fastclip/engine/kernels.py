"""Calls of the extension's operations (csrc/bindings/table.cpp), on the CPU and on devices."""

from __future__ import annotations

from typing import Any

import torch

from fastclip import _C
from fastclip.engine.devices import on_cuda, stream_of, workspace
from fastclip.engine.scalars import INT64_MAX
from fastclip.engine.tuning import TUNING


def run(name: str, *arguments: Any) -> Any:
    """Call an operation where its first argument is; it says what it returns on the CPU.

    On devices it returns nothing, and gets as much memory to work in as there is room for.
    """
    x: torch.Tensor = arguments[0]
    if not on_cuda(x):
        return getattr(_C, name)(*arguments, torch.get_num_threads(), TUNING.always_screen)
    kernel = getattr(_C.cuda, name)
    room = getattr(_C.cuda, f"{name}_room", None)
    if room is None:
        with stream_of(x) as stream:
            return kernel(*arguments, stream)
    memory, at_once = workspace(name, lambda most: room(*arguments, most), x)
    with stream_of(x) as stream:
        return kernel(*arguments, at_once, memory, stream)


def workspace_bytes(name: str, *arguments: Any) -> int:
    """Return how much memory an operation works in on a device; tensors may be on ``meta``."""
    size, _ = getattr(_C.cuda, f"{name}_room")(*arguments, INT64_MAX)
    return int(size)
