"""Floats where the caller lets torch flush denormals to zero (`torch.set_flush_denormal`).

The kernels keep denormals in any case. What torch, NumPy and Python do with floats on the way to a
kernel and back follows the setting of the thread, and of the thread that started it: conversions
and comparisons take denormals for zeros. These functions do without such operations.
"""

from typing import SupportsFloat

import torch

from fastclip import _C

_SMALLEST_NORMAL = 2.0**-126
_SMALLEST = 2.0**-149


def to_float(x: SupportsFloat) -> float:
    """Return ``float(x)``, also where ``x`` is a NumPy scalar or a tensor of float32."""
    return float(x) if isinstance(x, (int, float)) else _C.to_float(x)


def full(count: int, number: float, device: torch.device) -> torch.Tensor:
    """Return ``count`` times the ``number``, rounded to float32."""
    if not 0 < abs(number) < _SMALLEST_NORMAL:
        return torch.full((count,), number, dtype=torch.float32, device=device)
    steps = round(abs(number) / _SMALLEST)  # which is the denormal, read as an integer
    bits = steps if number > 0 else steps - 2**31
    return torch.full((count,), bits, dtype=torch.int32, device=device).view(torch.float32)


def ordered(x: torch.Tensor) -> torch.Tensor:
    """Return int32 numbers in the order of the float32 numbers ``x``, equal for 0 and -0."""
    bits = x.view(torch.int32)
    magnitudes = bits & 0x7FFFFFFF
    return torch.where(bits < 0, -magnitudes, magnitudes)


def to_double(x: torch.Tensor) -> torch.Tensor:
    """Return the float32 numbers ``x`` as float64."""
    steps = ordered(x)
    return torch.where(steps.abs() < 1 << 23, steps.double() * _SMALLEST, x.double())


def rounded(sums: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
    """Return the float64 ``sums`` [N, d] as float32; over ``counts`` [N], if given."""
    if sums.is_cuda:
        return (sums if counts is None else sums / counts[:, None]).float()
    sums = sums.contiguous()
    out = torch.empty(sums.shape, dtype=torch.float32, device="cpu")
    _C.round_means(sums, counts, out, torch.get_num_threads())
    return out
