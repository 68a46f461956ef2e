"""Keys on several processes, machines and GPUs, on torch.distributed.

Keys are spread over the ranks of a process group: `ShardedKeys`. All functions of fastclip that ask
about keys take them, such as `fastclip.topk`: each rank passes queries of its own, as many as it
likes, and gets the answers for these about all keys; queries that one rank alone has, others
passing none, are broadcast so. These calls are collective: all ranks make them, in the same order,
with the same numbers (k, scale, per, ...), which is checked. Start a program with torchrun::

    torch.distributed.init_process_group("gloo")  # "nccl" for GPUs
    keys = fastclip.distributed.ShardedKeys.split(fastclip.PackedKeys.load("words.safetensors"))
    best = fastclip.topk(images_of_this_rank, keys, k=10)

Arguments with a number per query (targets, thresholds) or per key (groups, values) are those of
this rank's queries or keys; a group may have keys on several ranks. Indices count through the keys
of all ranks. Counts per key are those of this rank's keys, by the queries of all ranks. Queries and
keys of ``pairs_above`` are always two sets.

Choices and counts (topk, rank, count_above, pairs_above, questions about the best of groups) have
the bits that one process gives, however keys and queries are spread. Sums over keys (logsumexp,
cache_logits, group_mean, the denominator of softmax_topk) have the same bits each time for the same
spreading (on the CPU; on CUDA devices group_mean has no fixed order), within the error that the
functions state and one more rounding. Those of group_mean are the bits of one process where one
rank has all keys, or where sums are exact, as those of float16 numbers are below 2**29.
gaussian_potential, of `ShardedKeys` in place of rows, has the same bits for the same number of
ranks, however its rows are spread. Results have no gradient: gradients
flow through `gather` alone, which is for the losses of `fastclip.training`; `fastclip.train` and
`fastclip.ttd.distill` share their steps among the ranks by themselves.

Beyond inputs and results, each rank uses as much memory as a call in memory of 16,384 queries, and
what the answers for these take some five times.

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
>>> fastclip.topk(captions[:2], keys, k=1).indices
tensor([[0],
        [1]])
>>> distributed.destroy_process_group()
"""

from fastclip.engine.ranks import RankError
from fastclip.engine.sharded import ShardedKeys

from ._gather import gather

__all__ = ["RankError", "ShardedKeys", "gather"]
