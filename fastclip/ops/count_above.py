"""How many scores pass a threshold."""

from typing import Any, Literal, SupportsFloat, cast, overload

import torch

from fastclip import _C
from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import Per, Side, Sides, ThresholdPerQuery, as_side
from fastclip.engine.checks import Array, as_thresholds
from fastclip.engine.filters import FILTERS, Excluding
from fastclip.engine.operation import Part, State, register
from fastclip.engine.packed import as_sides
from fastclip.engine.transforms import call
from fastclip.ops._count import Counts, count_part


@overload
def count_above(
    queries: Queries,
    keys: Keys,
    thresholds: Array | SupportsFloat,
    *,
    per: Literal["key", "query"] = ...,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[False] = ...,
) -> torch.Tensor: ...
@overload
def count_above(
    queries: Queries,
    keys: Keys,
    thresholds: Array | SupportsFloat,
    *,
    per: Literal["key", "query"] = ...,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor]: ...
def count_above(
    queries: Queries,
    keys: Keys,
    thresholds: Array | SupportsFloat,
    *,
    per: Literal["key", "query"] = "key",
    allowed: Array | None = None,
    exclude: Excluding | None = None,
    return_survivors: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Return how many exact scores lie above a threshold, for each key or for each query.

    ``((queries @ keys.T) > thresholds[:, None]).sum(0 if per == "key" else 1)`` without the [N, V]
    matrix. Scores are those of :func:`fastclip.topk`; strictly above, so an equal score does not
    count. With the score of its true class as each image's threshold, the counts per key say how
    many images each candidate word takes. The answer is the same to the bit for any number of
    threads, instruction set and device, packed or not.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16; also Rows if ``keys`` are
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
        Packed keys are screened: only scores close to a threshold are computed exactly.
    thresholds : float32 tensor or array [N], or a number
        One per query, or the same for all. A number of any kind is rounded to float32, beyond its
        range to infinity: all finite scores are above -1e300, none above 1e300. No NaN.
    per : "key" or "query"
        Count the queries above for each key, or the keys above for each query.
    allowed, exclude
        As of :func:`fastclip.topk`: keys that do not count, for which 0 is counted.
    return_survivors : bool, default False
        Also return how many of the N V pairs were scored exactly, an int64 scalar.

    Returns
    -------
    Tensor [V] or [N] int64
        Beyond inputs and result, it uses what :func:`fastclip.rank` does.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk` but for k, or a threshold is NaN, or ``per`` is neither word.

    Examples
    --------
    >>> import fastclip, torch
    >>> queries, keys = torch.eye(2), torch.tensor([[0.5, 0.1], [0.9, 0.2], [0.0, 0.5]])
    >>> fastclip.count_above(queries, keys, 0.3)
    tensor([1, 1, 1])
    >>> fastclip.count_above(queries, keys, torch.tensor([0.3, 0.5]), per="query")
    tensor([2, 0])
    """
    if elsewhere(keys, allowed, exclude):
        options = {"per": per, "return_survivors": return_survivors}
        filters = {"allowed": allowed, "exclude": exclude}
        counts = answer(_CountAbove, queries, keys, thresholds=thresholds, **filters, **options)
        return cast(torch.Tensor, counts)
    per_key = as_side(per) == "key"
    query_rows, key_rows, screen = as_sides(queries, keys)
    query_rows, key_rows = query_rows.detach(), key_rows.detach()  # counts have no gradient
    scores = as_thresholds(thresholds, len(query_rows), query_rows.device)
    rows = query_rows, key_rows, screen
    ties = torch.zeros_like(scores, dtype=torch.int64)  # so that no equal score counts
    counts, survivors = call("count_ahead", *rows, None, scores, ties, per_key)
    return (counts, survivors) if return_survivors else counts


@register
class _CountAbove(Counts):
    """The block may be one of keys."""

    name = "count_above"
    arguments = (ThresholdPerQuery(), Per(), *FILTERS)
    fields = ("count",)
    per: Side

    def __init__(self, sides: Sides, **given: Any) -> None:
        super().__init__(sides, **given)
        self.row = self.per

    @property
    def row_bytes(self) -> int:
        packed = _C.code_width(self.sides.width) + 12  # a block of keys is packed on the way
        return 64 + (packed if self.row == "key" else 0)

    def add(self, state: State, block: Part, chunk: Part) -> State:
        per_key = self.row == "key"
        queries, keys = (chunk, block) if per_key else (block, chunk)
        scores = queries.columns["thresholds"]
        no_ties = torch.zeros_like(scores, dtype=torch.int64)
        return self.merge(state, (count_part(queries, keys, scores, no_ties, per_key),))
