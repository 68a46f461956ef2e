"""The place of a given key among all."""

from typing import Literal, cast, overload

import torch

from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import Targets
from fastclip.engine.checks import Array, OneWait, as_indices
from fastclip.engine.filters import FILTERS, Excluding
from fastclip.engine.operation import Part, State, register
from fastclip.engine.packed import as_sides
from fastclip.engine.pair_scores import pair_scores
from fastclip.engine.transforms import call
from fastclip.ops._count import Counts, count_part


@overload
def rank(
    queries: Queries,
    keys: Keys,
    targets: Array,
    *,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[False] = ...,
) -> torch.Tensor: ...
@overload
def rank(
    queries: Queries,
    keys: Keys,
    targets: Array,
    *,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor]: ...
def rank(
    queries: Queries,
    keys: Keys,
    targets: Array,
    *,
    allowed: Array | None = None,
    exclude: Excluding | None = None,
    return_survivors: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Return how many keys are ahead of each query's target key: 0 for the best one.

    The place of ``targets[i]`` in ``(queries @ keys.T)[i].argsort(descending=True)``, without
    sorting or holding the [N, V] scores: keys with a larger exact score (see
    :func:`fastclip.topk`) are ahead, and among equal scores those with a lower index. So a target
    is among ``topk(queries, keys, k).indices`` if and only if its rank is below k. The answer is
    the same to the bit for any number of threads, instruction set and device, packed
    or not.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16; also Rows if ``keys`` are
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
        Packed keys are screened: only scores close to the target's are computed exactly.
    targets : integer tensor or array [N]
        A row of ``keys`` for each query.
    allowed, exclude
        As of :func:`fastclip.topk`: keys that do not count. A target itself may be one of them.
    return_survivors : bool, default False
        Also return how many of the N V pairs were scored exactly, an int64 scalar.

    Returns
    -------
    Tensor [N] int64
        Beyond inputs and result, each thread uses about 24 bytes * 512 * d of workspace and
        2 MiB. On CUDA devices the w + 50 bytes of each of up to 8,192 queries, w
        being d rounded up to a multiple of 64, and 33 MiB, or less if there is no room.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk` but for k, or a target is not a row of ``keys``.

    Examples
    --------
    >>> import fastclip, torch
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> ranks = fastclip.rank(images, captions, torch.arange(500))
    >>> (ranks < 5).double().mean()  # recall at 5
    tensor(0.8080, dtype=torch.float64)
    """
    if elsewhere(keys, allowed, exclude):
        given = {"targets": targets, "allowed": allowed, "exclude": exclude}
        found = answer(_Rank, queries, keys, return_survivors=return_survivors, **given)
        return cast(torch.Tensor, found)
    query_rows, key_rows, screen = as_sides(queries, keys)
    query_rows, key_rows = query_rows.detach(), key_rows.detach()  # ranks have no gradient
    indices = as_indices("targets", targets, len(query_rows), query_rows.device)
    with OneWait(query_rows):
        scores = pair_scores(query_rows, key_rows, indices)
        rows = query_rows, key_rows, screen
        ranks, survivors = call("count_ahead", *rows, None, scores, indices, False)
    return (ranks, survivors) if return_survivors else ranks


@register
class _Rank(Counts):
    name = "rank"
    arguments = (Targets(), *FILTERS)
    fields = ("rank",)
    row_bytes = 64

    def add(self, state: State, block: Part, chunk: Part) -> State:
        scores, targets = block.columns["target_scores"], block.columns["targets"]
        return self.merge(state, (count_part(block, chunk, scores, targets),))
