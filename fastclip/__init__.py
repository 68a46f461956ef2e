"""Open-vocabulary CLIP at any vocabulary size: exact answers without the similarity matrix."""

from importlib.metadata import version as _version

from fastclip import data, metrics
from fastclip.config import show_config
from fastclip.ops import (
    PackedKeys,
    PixelLabels,
    PixelScores,
    TopK,
    pack,
    pixel_labels,
    pixel_scores,
    refine_masks,
    similarity,
    topk,
)

__version__ = _version("fastclip")

__all__ = [
    "PackedKeys",
    "PixelLabels",
    "PixelScores",
    "TopK",
    "data",
    "metrics",
    "pack",
    "pixel_labels",
    "pixel_scores",
    "refine_masks",
    "show_config",
    "similarity",
    "topk",
]
