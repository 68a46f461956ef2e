"""Open-vocabulary CLIP at any vocabulary size: exact answers without the similarity matrix."""

import importlib
from typing import TYPE_CHECKING, Any

from fastclip import _exit as _exit  # registers what is done at the end of the process
from fastclip import data, ops
from fastclip._installation import warn_of_strangers as _warn_of_strangers
from fastclip._version import __version__ as __version__
from fastclip.config import show_config
from fastclip.ops import *  # noqa: F403  each of its own names is one here, too

if TYPE_CHECKING:
    from fastclip import coder, distributed, metrics, models, neighbors, sweep, training, ttd
    from fastclip.training import train
    from fastclip.zero_shot import classify

__all__ = [
    "classify",
    "coder",
    "data",
    "distributed",
    "metrics",
    "models",
    "neighbors",
    "show_config",
    "sweep",
    "train",
    "training",
    "ttd",
]
__all__ += ops.__all__

# Imported when they are first asked for: together they take longer than all that is needed for
# questions about tensors.
_PACKAGES = ("coder", "distributed", "metrics", "models", "neighbors", "sweep", "training", "ttd")
_FUNCTIONS = {"classify": "zero_shot", "train": "training"}

_warn_of_strangers()


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"fastclip.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"fastclip.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'fastclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
