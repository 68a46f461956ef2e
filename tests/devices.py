"""Runs tests that know nothing of devices on one: arguments are moved there, results back."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import fastclip

FUNCTIONS = [
    name for name in fastclip.__all__ if name in fastclip.ops.__all__ and name[0].islower()
]


def call_on_device(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the functions of fastclip by ones that compute on ``device``."""
    for name in FUNCTIONS:
        function = getattr(fastclip, name)
        monkeypatch.setattr(fastclip, name, _on_device(function, device))


def _on_device(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)  # a test that makes its tensors there
        moved: dict[int, Any] = {}  # by id: what is the same object must stay so

        def move(x: Any) -> Any:
            if id(x) not in moved:
                moved[id(x)] = to_device(x, device)
            return moved[id(x)]

        out = kwargs.get("out")
        result = function(*map(move, args), **{name: move(x) for name, x in kwargs.items()})
        if isinstance(out, torch.Tensor):
            return out.copy_(result)
        return result if isinstance(result, fastclip.PackedKeys) else to_host(result)

    return call


def to_device(x: Any, device: torch.device) -> Any:
    """Return ``x`` there, in the same layout; anything but arrays is left as it is."""
    if isinstance(x, np.ndarray) and x.dtype in (np.float32, np.float16):
        return torch.from_numpy(x.copy()).to(device)
    if isinstance(x, fastclip.PackedKeys):
        return x.to(device)
    if not isinstance(x, torch.Tensor) or x.layout != torch.strided:
        return x
    if x.device.type != "cpu":
        return x
    if x.requires_grad:
        return x.to(device)
    memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
    return memory.to(device).as_strided(x.shape, x.stride(), x.storage_offset())


def to_host(x: Any) -> Any:
    """Return the tensors of a result on the CPU."""
    if isinstance(x, torch.Tensor):
        return x.cpu()
    if isinstance(x, tuple):
        parts = map(to_host, x)
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return dataclasses.replace(
            x, **{f.name: to_host(getattr(x, f.name)) for f in dataclasses.fields(x)}
        )
    return x
