"""A question on one input, by several calls: what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Call = Callable[[], Any]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """One question on one input.

    ``work`` is what must be done at least: operations of the ``unit`` that does them, a
    multiplication and an addition counting as two, or bytes read. ``check`` raises AssertionError
    where an answer is wrong; it is called on the very inputs that are timed. Calls in ``slow`` are
    made only once.
    """

    description: str
    work: float
    ours: Mapping[str, Call]
    peers: Mapping[str, Call]
    check: Callable[[str, Any], None]
    unit: str = "int8"
    slow: tuple[str, ...] = ()
    device: torch.device = CPU


def unit_rows(count: int, width: int, seed: int) -> torch.Tensor:
    """Return random rows of length 1, the same for the same seed."""
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows)
