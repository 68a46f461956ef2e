"""Questions about the scores of queries and keys, answered without holding all the scores."""

from fastclip.ops.count_above import count_above
from fastclip.ops.pack import PackedKeys, pack
from fastclip.ops.rank import rank
from fastclip.ops.similarity import similarity
from fastclip.ops.topk import TopK, topk

__all__ = ["PackedKeys", "TopK", "count_above", "pack", "rank", "similarity", "topk"]
