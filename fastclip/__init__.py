"""Open-vocabulary CLIP at any vocabulary size: exact answers without the similarity matrix."""

from importlib.metadata import version as _version

from fastclip import data, metrics
from fastclip.config import show_config
from fastclip.ops import (
    PackedKeys,
    TopK,
    cache_logits,
    gaussian_potential,
    group_mean,
    logsumexp,
    pack,
    similarity,
    topk,
)

__version__ = _version("fastclip")

__all__ = [
    "PackedKeys",
    "TopK",
    "cache_logits",
    "data",
    "gaussian_potential",
    "group_mean",
    "logsumexp",
    "metrics",
    "pack",
    "show_config",
    "similarity",
    "topk",
]
