"""Checks of arguments that are single numbers: which kinds pass, and within which range."""

import math
import numbers
import operator
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
import torch

from fastclip.engine.floats import to_float
from fastclip.engine.tensors import as_tensor, check_memory

FLOAT32_MAX = torch.finfo(torch.float32).max
INT64_MAX = 2**63 - 1
_ROUNDS_TO_INFINITY = 2.0**128 - 2.0**103


def as_number(name: str, x: SupportsFloat) -> float:
    """Return the argument ``name`` as a number within the range of float32."""
    number = _as_float(name, x)
    if not abs(number) <= FLOAT32_MAX:
        raise ValueError(f"{name}: a finite float32 number is needed, got {number}")
    return number


def as_threshold(name: str, x: SupportsFloat) -> float:
    """Return the argument ``name``, infinite where it would be that when rounded to float32.

    Then every finite score is above -1e300, and none above 1e300.
    """
    number = _as_float(name, x)
    if math.isnan(number):
        raise ValueError(f"{name}: must be a number, got nan")
    if abs(number) <= FLOAT32_MAX:
        return number
    return math.copysign(math.inf if abs(number) >= _ROUNDS_TO_INFINITY else FLOAT32_MAX, number)


def as_integer(name: str, x: SupportsIndex) -> int:
    """Return the argument ``name``, of any size, as an int."""
    if type(x) is int:
        return x
    if isinstance(x, (torch.Tensor, np.ndarray)):
        x = _element(name, x)
    if not isinstance(x, (bool, np.bool_)):
        try:
            return operator.index(x)
        except TypeError:
            pass
    if isinstance(x, (float, np.floating)):
        whole = f"; pass {int(x)}" if float(x).is_integer() else ""
        raise TypeError(f"{name}: an integer is needed, got {type(x).__name__} {float(x)}{whole}")
    raise TypeError(f"{name}: an integer is needed, got {type(x).__name__}")


def as_integers(name: str, values: Any) -> list[int]:
    """Return the integers of the argument ``name``, any sequence."""
    try:
        values = list(values)
    except TypeError:
        raise TypeError(f"{name}: integers are needed, got {type(values).__name__}") from None
    return [as_integer(name, x) for x in values]


def _as_float(name: str, x: SupportsFloat) -> float:
    number = x if type(x) in (float, int) else _real(name, x)
    try:
        return to_float(number)
    except OverflowError:
        return math.inf if float(number > 0) else -math.inf  # type: ignore[operator]
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: a number is needed, got {type(x).__name__}: {error}") from error


def _real(name: str, x: Any) -> Any:
    if isinstance(x, (torch.Tensor, np.ndarray)):
        if isinstance(x, torch.Tensor) and x.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{name}: is a constant here, and has no gradient; pass {name}.detach()"
            )
        x = _element(name, x)
    complex_number = isinstance(x, numbers.Complex) and not isinstance(x, numbers.Real)
    if complex_number or isinstance(x, (bool, np.bool_)) or not isinstance(x, SupportsFloat):
        raise TypeError(f"{name}: a number is needed, got {type(x).__name__}")
    return x


def _element(name: str, x: Any) -> Any:
    """Return the only element of a tensor or array."""
    tensor = as_tensor(name, x)
    if tensor.numel() != 1:
        raise TypeError(f"{name}: one number is needed, got shape {tuple(tensor.shape)}")
    if torch.compiler.is_compiling():
        return tensor.item()
    check_memory(name, tensor)
    return to_float(tensor) if tensor.dtype == torch.float32 else tensor.item()
