"""Questions about the scores of queries and keys, answered without holding all the scores.

Rows of features are float32, float16 or bfloat16, in one of

- a torch tensor with memory of its own; also a parameter, an inference tensor, any strides
- a NumPy array; also a memory map, read-only, with negative strides
- anything else that speaks DLPack, as arrays of JAX, CuPy and pyarrow.Tensor do

because these are used where they lie: nothing is copied but rows whose elements are apart. All
else is refused, in a message that says what to pass, because a conversion would either hold a
second copy of what may be larger than the memory, in every call anew, or change numbers:

- a list, a dataset of h5py, an image of PIL: ``np.asarray(x, np.float32)``
- a DataFrame: ``x.to_numpy(np.float32)``
- float64: ``x.astype(np.float32)``, ``x.to(torch.float32)``; its rounding can make scores equal
- a mask, as of ``numpy.ma``: ``x.filled(value)``; without it, masked rows would count
- sparse, nested and quantized tensors: ``x.to_dense()``, ``torch.cat(x.unbind())``,
  ``x.dequantize()``

Lazily negated views are resolved (a copy). Storages that were freed are refused, and so are
tensors without memory, such as fake ones, by functions that read numbers at once: :func:`pack` and
those of fastclip.metrics. Targets, groups and labels are integers of any size, not bool. Numbers
are of any kind that ``float`` or ``operator.index`` takes, also NumPy's and tensors with one
element, but not bool or str. What ``similarity`` writes to must be a tensor, a NumPy array, or an
array that says by DLPack 1.0 that it is writable.

Keys may also be rows in files, `fastclip.data.open_rows(...)`, which are read in chunks and take at
most 1 GiB beside queries and result; and `fastclip.distributed.ShardedKeys`, spread over processes.
All functions with queries and keys take them, but for `similarity`. The answers have the bits of
keys in memory (sums over ranks aside: ``help(fastclip.distributed)``), but no gradient; options
that need all keys in memory, ``return_survivors`` and ``num_groups``, are refused. Besides what a
call in memory raises, `fastclip.data.FeatureFileError` and `fastclip.distributed.RankError` are
possible. Queries may be `fastclip.data.Rows` if keys are. `fastclip.sweep.run` is for answers that
memory does not hold, and for jobs that must survive a kill.

While a CUDA graph is captured, no value on the device can be looked at: NaN, infinity, numbers that
are too large and indices out of range raise nothing then, and what such inputs give is undefined.
An index out of range may end in an illegal access to memory. Check inputs by a call outside.

Reverse mode works for all results that have a gradient: ``backward()``, and ``grad``, ``vjp`` and
``jacrev`` of torch.func; so does ``vmap``, by a call for each of the batch. Forward mode (``jvp``,
``jacfwd``, torch.autograd.forward_ad) and second derivatives exist for `topk`, `group_max`,
`similarity` and `pixel_scores`, and in ``queries`` for `group_mean`; the others refuse them.

The gradients of scores (of `topk`, `group_max`, `group_mean`, `similarity` and `pixel_scores`) are
sums of n products in float32, off by at most ``n * 2**-24`` of the sum of their magnitudes; those
of `similarity` and `group_mean` are matrix products, of the precision that torch is told to give
these. `logsumexp`, `gaussian_potential` and `cache_logits` state their own bounds. Under
``torch.autocast`` all are computed as without it, but for second derivatives. Gradients are made by
torch, which follows ``torch.set_flush_denormal``; the results themselves keep denormals.
"""

from fastclip.engine.operation import OPERATIONS as OPERATIONS
from fastclip.engine.packed import PackedKeys
from fastclip.engine.packing import pack
from fastclip.ops.cache_logits import cache_logits
from fastclip.ops.count_above import count_above
from fastclip.ops.gaussian_potential import gaussian_potential
from fastclip.ops.group_beats import group_beats
from fastclip.ops.group_max import GroupMax, group_max
from fastclip.ops.group_mean import group_mean
from fastclip.ops.logsumexp import logsumexp
from fastclip.ops.pairs_above import pairs_above
from fastclip.ops.pixel_labels import PixelLabels, pixel_labels
from fastclip.ops.pixel_scores import PixelScores, pixel_scores
from fastclip.ops.rank import rank
from fastclip.ops.refine_masks import refine_masks
from fastclip.ops.similarity import similarity
from fastclip.ops.softmax_topk import SoftmaxTopK, softmax_topk
from fastclip.ops.topk import TopK, topk

__all__ = [
    "GroupMax",
    "PackedKeys",
    "PixelLabels",
    "PixelScores",
    "SoftmaxTopK",
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
    "softmax_topk",
    "topk",
]
