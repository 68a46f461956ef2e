"""The functions of fastclip on several processes, machines and GPUs, on torch.distributed.

Keys are spread over the ranks of a process group: `ShardedKeys`. Each rank passes queries of its
own, as many as it likes, and gets the answers for these about all keys; queries that one rank alone
has, others passing none, are broadcast so. The functions are collective: all ranks call them, in
the same order, with the same settings. Start a program with torchrun::

    torch.distributed.init_process_group("gloo")  # "nccl" for GPUs
    keys = fastclip.distributed.ShardedKeys.split(fastclip.PackedKeys.load("words.safetensors"))
    best = fastclip.distributed.topk(images_of_this_rank, keys, k=10)

`topk`, `rank`, `count_above`, `pairs_above`, `group_max` and `group_beats` give the bits that one
process gives, however keys and queries are spread. `logsumexp`, `cache_logits` and `group_mean`,
sums over keys, give the same bits each time for the same spreading; `gaussian_potential`, which
takes rows of all ranks and no keys, for the same number of ranks, however its rows are spread. All
four are within the error that they state.
Gradients flow through `gather` alone, which is for the losses of `fastclip.training`;
`fastclip.train` and `fastclip.ttd.distill` share their steps among the ranks by themselves.

Tested with gloo, between two and three processes; NCCL has not been tried yet.

An argument that is wrong on one rank is an error on all, before work starts. A rank that ends or
does not answer (within the ``timeout`` of the process group) is a `RankError` on the others; the
group cannot be used after that.

Examples
--------
>>> import torch, fastclip
>>> from torch import distributed
>>> distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
>>> captions = fastclip.data.load_sample("coco-captions").features
>>> keys = fastclip.distributed.ShardedKeys.split(captions)
>>> keys
ShardedKeys(500 x 512, rank 0 of 1 has 0 to 499)
>>> fastclip.distributed.topk(captions[:2], keys, k=1).indices
tensor([[0],
        [1]])
>>> distributed.destroy_process_group()
"""

from ._gather import gather
from ._ranks import RankError
from .keys import ShardedKeys
from .pairs import pairs_above
from .potential import gaussian_potential
from .search import count_above, group_beats, group_max, rank, topk
from .sums import cache_logits, group_mean, logsumexp

__all__ = [
    "RankError",
    "ShardedKeys",
    "cache_logits",
    "count_above",
    "gather",
    "gaussian_potential",
    "group_beats",
    "group_max",
    "group_mean",
    "logsumexp",
    "pairs_above",
    "rank",
    "topk",
]
