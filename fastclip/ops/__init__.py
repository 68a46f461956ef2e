"""Questions about the scores of queries and keys, answered without holding all the scores.

While a CUDA graph is captured, no value on the device can be looked at: NaN, infinity, numbers that
are too large and indices out of range raise nothing then, and what such inputs give is undefined.
An index out of range may end in an illegal access to memory. Check inputs by a call outside.

Reverse mode works for all results that have a gradient: ``backward()``, and ``grad``, ``vjp`` and
``jacrev`` of torch.func; so does ``vmap``, by a call for each of the batch. Forward mode (``jvp``,
``jacfwd``, torch.autograd.forward_ad) and second derivatives exist for `topk`, `group_max`,
`similarity` and `pixel_scores`; the others refuse them.

The gradients of scores (of `topk`, `group_max`, `group_mean`, `similarity` and `pixel_scores`) are
sums of n products in float32, off by at most ``n * 2**-24`` of the sum of their magnitudes; those
of `similarity` and `group_mean` are matrix products, of the precision that torch is told to give
these. `logsumexp`, `gaussian_potential` and `cache_logits` state their own bounds. Under
``torch.autocast`` all are computed as without it.
"""

from fastclip.ops.cache_logits import cache_logits
from fastclip.ops.count_above import count_above
from fastclip.ops.gaussian_potential import gaussian_potential
from fastclip.ops.group_beats import group_beats
from fastclip.ops.group_max import GroupMax, group_max
from fastclip.ops.group_mean import group_mean
from fastclip.ops.logsumexp import logsumexp
from fastclip.ops.pack import PackedKeys, pack
from fastclip.ops.pairs_above import pairs_above
from fastclip.ops.pixel_labels import PixelLabels, pixel_labels
from fastclip.ops.pixel_scores import PixelScores, pixel_scores
from fastclip.ops.rank import rank
from fastclip.ops.refine_masks import refine_masks
from fastclip.ops.similarity import similarity
from fastclip.ops.topk import TopK, topk

__all__ = [
    "GroupMax",
    "PackedKeys",
    "PixelLabels",
    "PixelScores",
    "TopK",
    "cache_logits",
    "count_above",
    "gaussian_potential",
    "group_beats",
    "group_max",
    "group_mean",
    "logsumexp",
    "pack",
    "pairs_above",
    "pixel_labels",
    "pixel_scores",
    "rank",
    "refine_masks",
    "similarity",
    "topk",
]
