"""Checks of arguments that are no tensors; a message names the argument and what is allowed."""

import math
from collections.abc import Iterable, Sequence


def check_at_least(least: float, **arguments: float | None) -> None:
    """Check that arguments are ``least`` or more, and finite; None stands for a default."""
    for name, value in arguments.items():
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"{name}: is {value}, allowed: {least:g} or more")


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Check that ``value`` is one of ``allowed``."""
    choices = tuple(allowed)
    if value not in choices:
        raise ValueError(f"{name}: is {value!r}, allowed: {', '.join(choices)}")


def check_strings(name: str, strings: Sequence[str]) -> None:
    """Check that there is a sequence of str, and not a single one."""
    if isinstance(strings, (str, bytes)) or not isinstance(strings, Sequence):
        raise TypeError(f"{name}: a sequence of str is needed, got {type(strings).__name__}")
    for i, text in enumerate(strings):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{i}]: a str is needed, got {type(text).__name__}")
