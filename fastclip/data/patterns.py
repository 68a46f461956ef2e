"""Patterns of file names: wildcards, and braces as shells and webdataset have them."""

import glob
import re
import warnings
from collections.abc import Iterable

_BRACES = re.compile(r"\{([^{}]*,[^{}]*|-?[0-9]+\.\.-?[0-9]+(?:\.\.[0-9]+)?)\}")
_MOST = 1_000_000  # names that a pattern may stand for


def is_pattern(text: str) -> bool:
    """Whether a name has wildcards, or braces that `expand` would replace."""
    return glob.has_magic(text) or _BRACES.search(text) is not None


def expand(pattern: str) -> list[str]:
    """Replace braces by each of their alternatives, in order, the last braces fastest.

    Raises
    ------
    ValueError
        These are too many names.

    Examples
    --------
    >>> from fastclip.data.patterns import expand
    >>> expand("{08..10}/{a,b}.tar")
    ['08/a.tar', '08/b.tar', '09/a.tar', '09/b.tar', '10/a.tar', '10/b.tar']
    """
    names = [pattern]
    while any(_BRACES.search(name) for name in names):
        expanded: list[str] = []
        for name in names:
            found = _BRACES.search(name)
            if found is None:
                expanded.append(name)
                continue
            start, end = found.span()
            for text in _alternatives(pattern, found[1]):
                expanded.append(name[:start] + text + name[end:])
            _check(pattern, len(expanded))
        names = expanded
    return names


def warn_of_missing_parts(folder: str, names: Iterable[str]) -> None:
    """Warn of parts that are missing by names such as ``train-00003-of-00008.parquet``."""
    numbers = [re.search(r"(\d+)-of-(\d+)\.\w+$", name) for name in names]
    found = {int(number[1]) for number in numbers if number}
    promised = max((int(number[2]) for number in numbers if number), default=0)
    if found and len(found) < promised:
        warnings.warn(
            f"{folder}: {len(found)} of {promised} files are there, as their names say: "
            "put the others back if they belong to it",
            stacklevel=2,
        )


def _alternatives(pattern: str, inside: str) -> list[str]:
    if "," in inside:
        return inside.split(",")
    first, last, *step = inside.split("..")
    begin, end = int(first), int(last)
    stride = max(1, int(step[0])) if step else 1
    _check(pattern, abs(end - begin) // stride + 1)
    width = max(len(first), len(last)) if re.match("-?0[0-9]", first + "," + last) else 0
    count = range(begin, end + 1, stride) if begin <= end else range(begin, end - 1, -stride)
    return [f"{number:0{width}d}" for number in count]


def _check(pattern: str, count: int) -> None:
    if count > _MOST:
        raise ValueError(f"{pattern}: stands for {count:,} names, allowed: up to {_MOST:,}")
