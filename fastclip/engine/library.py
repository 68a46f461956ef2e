"""The library of operators that torch sees, and their kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fastclip.engine.devices import BUILT, EMULATED

library = torch.library.Library("fastclip", "DEF")

KERNELS: dict[str, Callable[..., Any]] = {}
"""What the operators call for tensors that have memory."""


def implement(name: str, kernel: Callable[..., Any]) -> None:
    """Register the kernel of an operator for tensors on all devices of this build."""

    def in_full_precision(*arguments: Any) -> Any:
        with torch._C._DisableAutocast():  # which would lower the products that a kernel asks for
            return kernel(*arguments)

    KERNELS[name] = in_full_precision
    library.impl(name, in_full_precision, "CPU")
    if BUILT and not EMULATED:
        library.impl(name, in_full_precision, "CUDA")
