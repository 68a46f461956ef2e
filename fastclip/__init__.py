"""Open-vocabulary CLIP at any vocabulary size: exact answers without the similarity matrix."""

from fastclip import _exit as _exit  # registers what is done at the end of the process
from fastclip import coder, data, distributed, metrics, models, ops, sweep, training, ttd
from fastclip._installation import warn_of_strangers as _warn_of_strangers
from fastclip._version import __version__ as __version__
from fastclip.config import show_config
from fastclip.ops import *  # noqa: F403  each of its own names is one here, too
from fastclip.training import train

__all__ = [
    "coder",
    "data",
    "distributed",
    "metrics",
    "models",
    "show_config",
    "sweep",
    "train",
    "training",
    "ttd",
]
__all__ += ops.__all__

_warn_of_strangers()
