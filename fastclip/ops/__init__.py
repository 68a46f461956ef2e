"""Questions about the scores of queries and keys, answered without holding all the scores."""

from fastclip.ops.pack import PackedKeys, pack
from fastclip.ops.pixel_labels import PixelLabels, pixel_labels
from fastclip.ops.pixel_scores import PixelScores, pixel_scores
from fastclip.ops.refine_masks import refine_masks
from fastclip.ops.similarity import similarity
from fastclip.ops.topk import TopK, topk

__all__ = [
    "PackedKeys",
    "PixelLabels",
    "PixelScores",
    "TopK",
    "pack",
    "pixel_labels",
    "pixel_scores",
    "refine_masks",
    "similarity",
    "topk",
]
