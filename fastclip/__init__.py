"""Open-vocabulary CLIP at any vocabulary size: exact answers without the similarity matrix."""

from importlib.metadata import version as _version

from fastclip import _exit as _exit  # registers what is done at the end of the process
from fastclip import coder, data, distributed, metrics, models, sweep, training, ttd
from fastclip.config import show_config
from fastclip.ops import (
    GroupMax,
    PackedKeys,
    PixelLabels,
    PixelScores,
    SoftmaxTopK,
    TopK,
    cache_logits,
    count_above,
    gaussian_potential,
    group_beats,
    group_max,
    group_mean,
    logsumexp,
    pack,
    pairs_above,
    pixel_labels,
    pixel_scores,
    rank,
    refine_masks,
    similarity,
    softmax_topk,
    topk,
)
from fastclip.training import train

__version__ = _version("fastclip")

__all__ = [
    "GroupMax",
    "PackedKeys",
    "PixelLabels",
    "PixelScores",
    "SoftmaxTopK",
    "TopK",
    "cache_logits",
    "coder",
    "count_above",
    "data",
    "distributed",
    "gaussian_potential",
    "group_beats",
    "group_max",
    "group_mean",
    "logsumexp",
    "metrics",
    "models",
    "pack",
    "pairs_above",
    "pixel_labels",
    "pixel_scores",
    "rank",
    "refine_masks",
    "show_config",
    "similarity",
    "softmax_topk",
    "sweep",
    "topk",
    "train",
    "training",
    "ttd",
]
