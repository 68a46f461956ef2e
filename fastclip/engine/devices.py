"""Tensors on CUDA devices: whether this build takes them, their stream, memory to work in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch

from fastclip import _C
from fastclip.engine.scalars import INT64_MAX

BUILT = hasattr(_C, "cuda")
"""Whether this build has CUDA kernels."""

EMULATED = BUILT and _C.cuda.emulated
"""Whether these run on the CPU, and on its tensors: in a build for tests, there for all of them."""

_OLDEST_CAPABILITY = 80


def on_cuda(x: torch.Tensor) -> bool:
    """Whether the CUDA kernels are those for ``x``."""
    return x.is_cuda or EMULATED


def usable_device(device: str | torch.device) -> torch.device:
    """Return the argument ``device`` with its number.

    Raises
    ------
    ValueError
        It is no device, or cannot be used here.
    """
    try:
        return torch.empty(0, device=torch.device(device)).device
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        raise ValueError(f"device: {str(device)!r} cannot be used here: {error}") from error


def check_device(name: str, x: torch.Tensor) -> None:
    """Check that this build has kernels for the device of the argument ``name``."""
    _check_kernels(f"{name}: is on device", x.device)


def device_to_compute_on(device: str | torch.device) -> torch.device:
    """Return the argument ``device`` with its number.

    Raises
    ------
    ValueError
        It is no device, cannot be used here, or this build has no kernels for it.
    RuntimeError
        The device or its driver is too old.
    """
    place = usable_device(device)
    _check_kernels("device: is", place)
    return place


def _check_kernels(what: str, device: torch.device) -> None:
    if device.type == "cpu":
        return
    if device.type != "cuda" or not BUILT or EMULATED:
        allowed = "'cpu' and 'cuda'" if BUILT and not EMULATED else "'cpu' only"
        if device.type == "cuda" and not BUILT:
            allowed += f" (CUDA was not built: {_C.without_cuda})"
        raise ValueError(f"{what} '{device}', this build of fastclip computes on {allowed}")
    problem = driver_problem() or _device_problem(device.index)
    if problem:
        raise RuntimeError(f"{what} '{device}', but {problem}")


@cache
def driver_problem() -> str:
    """Why the driver cannot run this build's kernels; empty if it can."""
    toolkit, driver = _C.cuda.toolkit, _C.cuda.driver_version()
    if driver == 0:
        return "there is no NVIDIA driver"
    if driver // 1000 >= toolkit // 1000:
        return ""
    return (
        f"the NVIDIA driver is too old: it supports CUDA {version_text(driver)}, this build of "
        f"fastclip needs {toolkit // 1000}.0 or newer; update the driver, or build fastclip with "
        f"the nvcc of CUDA {driver // 1000}"
    )


@cache
def _device_problem(index: int) -> str:
    capability = _C.cuda.capability(index)
    if capability >= _OLDEST_CAPABILITY:
        return ""
    return (
        f"its compute capability is {capability // 10}.{capability % 10}, "
        f"{_OLDEST_CAPABILITY // 10}.{_OLDEST_CAPABILITY % 10} or newer is needed"
    )


def version_text(version: int) -> str:
    """Return the name of a CUDA version, 13.0 for 13000."""
    return f"{version // 1000}.{version % 1000 // 10}"


def check_same_device(name: str, x: torch.Tensor, other: str, reference: torch.Tensor) -> None:
    """Check that the argument ``name`` is where the argument ``other`` is."""
    if x.device != reference.device:
        raise ValueError(
            f"{name}: is on device '{x.device}', but {other} on '{reference.device}': "
            f"all must be on one device"
        )


def check_movable(name: str, x: torch.Tensor, device: torch.device) -> None:
    """Check that the argument ``name`` is on ``device`` or on the CPU."""
    if x.device not in (device, torch.device("cpu")):
        raise ValueError(f"{name}: is on device '{x.device}', '{device}' or 'cpu' is needed")


@contextmanager
def stream_of(x: torch.Tensor) -> Iterator[int]:
    """Make the device of ``x`` the current one; the value is the stream to launch kernels in."""
    if EMULATED:
        yield 0
        return
    with torch.cuda.device(x.device):
        yield torch.cuda.current_stream().cuda_stream


def capturing(x: torch.Tensor) -> bool:
    """Whether a CUDA graph is being captured, so that no value can be read or checked.

    What the users are told of it is in the docstring of fastclip.ops.
    """
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def workspace(
    operation: str, room: Callable[[int], tuple[int, int]], x: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """Allocate memory where ``x`` is, for fewer rows at a time if there is no room.

    ``room(most)`` says how many bytes are needed, and for how many rows, at most ``most``. Return
    the memory as uint8, and for how many rows it is.
    """
    most = INT64_MAX
    while True:
        size, rows = room(most)
        try:
            return torch.empty(size, dtype=torch.uint8, device=x.device), rows
        except torch.OutOfMemoryError as error:
            if rows <= 1:
                raise torch.OutOfMemoryError(
                    f"{operation}: {size / 2**20:,.0f} MiB of memory to work in are needed on "
                    f"'{x.device}' besides the result. {error}"
                ) from error
            most = -(-rows // 2)
