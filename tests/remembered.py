"""Results that tests ask for again with each instruction set and number of threads."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")
_KEPT = 400  # of each function


def remembered(function: Callable[..., T]) -> Callable[..., T]:
    """Let ``function`` compute once for equal tensors, arrays and numbers."""
    results: dict[bytes, T] = {}

    @functools.wraps(function)
    def call(*arguments: Any) -> T:
        key = _digest(arguments)
        if key not in results:
            if len(results) == _KEPT:
                del results[next(iter(results))]  # the oldest
            results[key] = function(*arguments)
        return copy.deepcopy(results[key])

    return call


def _digest(arguments: tuple[Any, ...]) -> bytes:
    digest = hashlib.sha256()
    for x in arguments:
        if isinstance(x, torch.Tensor):
            digest.update(repr((x.dtype, x.shape)).encode())
            plain = x.detach().clone(memory_format=torch.contiguous_format)
            digest.update(plain.view(-1).view(torch.uint8).numpy())
        elif isinstance(x, np.ndarray):
            digest.update(repr((x.dtype, x.shape)).encode())
            digest.update(np.ascontiguousarray(x))
        else:
            digest.update(repr(x).encode())
    return digest.digest()
