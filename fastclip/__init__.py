"""Open-vocabulary CLIP at any vocabulary size: exact answers without the similarity matrix."""

from importlib.metadata import version as _version

from fastclip import data, metrics
from fastclip.config import show_config
from fastclip.ops import PackedKeys, TopK, count_above, pack, rank, similarity, topk

__version__ = _version("fastclip")

__all__ = [
    "PackedKeys",
    "TopK",
    "count_above",
    "data",
    "metrics",
    "pack",
    "rank",
    "show_config",
    "similarity",
    "topk",
]
