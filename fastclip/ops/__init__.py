"""Questions about the scores of queries and keys, answered without holding all the scores."""

from fastclip.ops.cache_logits import cache_logits
from fastclip.ops.gaussian_potential import gaussian_potential
from fastclip.ops.group_mean import group_mean
from fastclip.ops.logsumexp import logsumexp
from fastclip.ops.pack import PackedKeys, pack
from fastclip.ops.similarity import similarity
from fastclip.ops.topk import TopK, topk

__all__ = [
    "PackedKeys",
    "TopK",
    "cache_logits",
    "gaussian_potential",
    "group_mean",
    "logsumexp",
    "pack",
    "similarity",
    "topk",
]
