"""Checks of arguments that are no tensors; a message names the argument and what is allowed."""

import difflib
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
        near = did_you_mean(value, choices)
        raise ValueError(f"{name}: is {value!r}, allowed: {', '.join(choices)}{near}")


def check_strings(name: str, strings: Sequence[str]) -> None:
    """Check that there is a sequence of str, and not a single one."""
    if isinstance(strings, (str, bytes)) or not isinstance(strings, Sequence):
        raise TypeError(f"{name}: a sequence of str is needed, got {type(strings).__name__}")
    for i, text in enumerate(strings):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{i}]: a str is needed, got {type(text).__name__}")


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: the known ones that look like it.

    Case makes no difference, and neither do spaces, hyphens and underscores.

    Examples
    --------
    >>> from fastclip.data.checks import did_you_mean
    >>> did_you_mean("Word-Net", ["wordnet", "lvis"])
    "; did you mean 'wordnet'?"
    >>> did_you_mean("x", ["wordnet", "lvis"])
    ''
    """
    by_form: dict[str, str] = {}
    for choice in known:
        by_form.setdefault(_form(choice), choice)
    near = difflib.get_close_matches(_form(str(word)), by_form, n=2)
    return f"; did you mean {' or '.join(repr(by_form[form]) for form in near)}?" if near else ""


def _form(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter not in " -_")
