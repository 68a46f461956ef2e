"""Open-vocabulary CLIP at any vocabulary size: exact answers without the similarity matrix."""

from importlib.metadata import version as _version

from fastclip import data, metrics
from fastclip.config import show_config
from fastclip.ops import (
    GroupMax,
    PackedKeys,
    PixelLabels,
    PixelScores,
    TopK,
    count_above,
    group_beats,
    group_max,
    pack,
    pairs_above,
    pixel_labels,
    pixel_scores,
    rank,
    refine_masks,
    similarity,
    topk,
)

__version__ = _version("fastclip")

__all__ = [
    "GroupMax",
    "PackedKeys",
    "PixelLabels",
    "PixelScores",
    "TopK",
    "count_above",
    "data",
    "group_beats",
    "group_max",
    "metrics",
    "pack",
    "pairs_above",
    "pixel_labels",
    "pixel_scores",
    "rank",
    "refine_masks",
    "show_config",
    "similarity",
    "topk",
]
