"""The best keys of each query."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, SupportsIndex, cast, overload

import torch

from fastclip import _C
from fastclip.data.html import SHOWN, table
from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import K
from fastclip.engine.checks import (
    Array,
    OneWait,
    as_integer,
    check_finite,
    check_k,
    check_row,
    try_plain,
    with_adjacent_elements,
)
from fastclip.engine.devices import on_cuda
from fastclip.engine.filters import (
    FILTERS,
    Excluding,
    as_bytes,
    contains,
    excluded,
    gathered,
)
from fastclip.engine.floats import ordered
from fastclip.engine.kernels import run, workspace_bytes
from fastclip.engine.operation import LAST, Operation, Part, State, register
from fastclip.engine.packed import PackedKeys, as_keys, as_sides
from fastclip.engine.packing import (
    empty_screen,
    encode,
    parts_to_pack,
    worth_packing,
)
from fastclip.engine.transforms import call, define
from fastclip.engine.tuning import TUNING
from fastclip.ops._gather import PICKED, empty_best


class TopK(NamedTuple):
    """The k best keys of each query, best first."""

    values: torch.Tensor
    """[N, k] float32: exact scores."""
    indices: torch.Tensor
    """[N, k] int64: rows of ``keys``."""

    def _repr_html_(self) -> str | None:
        if self.values.ndim != 2:  # as inside of torch.func.vmap
            return None
        n, k = self.values.shape
        shown = min(k, SHOWN)
        values, indices = (x[:SHOWN, :shown].detach().tolist() for x in self)
        dots = ["..."] if k > shown else []
        return table(
            f"TopK: queries: {n:,}, keys of each: {k:,}; row and score",
            ["query", *range(1, shown + 1), *dots],
            (
                [i, *(f"{key}: {x:.4f}" for key, x in zip(*best, strict=True)), *dots]
                for i, best in enumerate(zip(indices, values, strict=True))
            ),
            total=n,
        )


@overload
def topk(
    queries: Queries,
    keys: Keys,
    k: SupportsIndex,
    *,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[False] = ...,
) -> TopK: ...
@overload
def topk(
    queries: Queries,
    keys: Keys,
    k: SupportsIndex,
    *,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[True],
) -> tuple[TopK, torch.Tensor]: ...
def topk(
    queries: Queries,
    keys: Keys,
    k: SupportsIndex,
    *,
    allowed: Array | None = None,
    exclude: Excluding | None = None,
    return_survivors: bool = False,
) -> TopK | tuple[TopK, torch.Tensor]:
    """Return the k keys with the largest inner product with each query, and these scores.

    The same as ``(queries @ keys.T).topk(k)`` without the [N, V] matrix, and exact: a score is the
    inner product accumulated in float64 in 16 interleaved lanes, rounded once to float32; keys are
    ordered by that score, equal scores by the lower index. The answer is the same to the bit for
    any number of threads, instruction set and device, packed or not.

    Keys are screened first: a bound on each score, from one byte a number where the keys are packed
    and in float32 where they are not, drops the pairs that cannot be among the best; the survivors
    are scored exactly. Many queries with unpacked keys pack these on the way.

    Differentiable in ``values``, with respect to ``queries`` and unpacked ``keys``.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16; also Rows if ``keys`` are
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
        Their rows may have any stride.
    k : int, 1 <= k <= V
    allowed : bool tensor or array [V], optional
        Keys that count; of `ShardedKeys` those of this rank. The others must be finite, too.
    exclude : integers [N] or [N, m], or a sparse matrix of torch or SciPy [N, V], optional
        Rows of ``keys`` that do not count for each query, -1 for none: the query itself, its true
        class, items seen. Of a sparse matrix all entries that it stores. The answer is that of the
        keys that are left, to the bit; beyond their number ``indices`` are -1 and ``values`` minus
        infinity. Neither is for torch.func.vmap.
    return_survivors : bool, default False
        Also return how many of the N V pairs were scored exactly, an int64 scalar. It depends on
        threads and instruction set, unlike the answer.

    Returns
    -------
    TopK
        ``values`` [N, k] float32 and ``indices`` [N, k] int64, best first. Beyond inputs and
        result, each thread uses about 16 bytes * 512 * d + 2 MiB of workspace plus at most 16 MiB
        of candidates (48 bytes * k where that is more); a call with few queries also 12 bytes
        * N * k for each part that the keys are split into; one with many queries and unpacked keys
        up to 2^18 (w + 12) bytes, w being d rounded up to a multiple of 64. On CUDA
        devices, of each of up to 16,384 queries at a time, w + 60 bytes and 8 bytes for each of 8 k
        candidates (1,024 to 8,192; at least 8,192 while they take no more than 128 MiB), or less
        if there is no room; up to 2^20 (w + 12) bytes for unpacked keys; with k above 1,024,
        28 bytes for each of about 2^26 scores.

    Raises
    ------
    TypeError
        An argument is no array or has another dtype.
    ValueError
        An argument has a wrong shape, is on another device, holds NaN or infinity, or k is out of
        range.

    Examples
    --------
    >>> import fastclip
    >>> images = fastclip.data.load_sample("coco-images")
    >>> captions = fastclip.data.load_sample("coco-captions")
    >>> best = fastclip.topk(images.features, captions.features, k=3)
    >>> best.indices.shape
    torch.Size([500, 3])
    >>> captions.names[best.indices[2, 0]]
    'a toilet with an unusual green seat and back'
    """
    if elsewhere(keys, allowed, exclude):
        given = {"k": k, "allowed": allowed, "exclude": exclude}
        found = answer(BestKeys, queries, keys, return_survivors=return_survivors, **given)
        return cast(TopK, found)
    k = as_integer("k", k)
    found = _plain(queries, keys, k)
    if found is None:
        query_rows, key_rows, screen = as_sides(queries, keys)
        check_k(k, key_rows.shape[0])
        found = _plain(query_rows, keys if screen else key_rows, k)  # such as arrays of NumPy
        if found is None:
            found = call("topk", query_rows, key_rows, screen, None, k)
    best = TopK(*found[:2])
    return (best, torch.as_tensor(found[2], device=found[0].device)) if return_survivors else best


def _plain(queries: Any, keys: Any, k: int) -> tuple[Any, ...] | None:
    """Search tensors without torch where it need not see them; else return None.

    Also where keys that are not packed may be worth packing.
    """
    if not try_plain():
        return None
    codes: tuple[torch.Tensor, ...] = ()
    if isinstance(keys, PackedKeys):
        keys, codes = keys.rows, (keys.codes, keys.bounds, keys.center)
    tuned = TUNING.pack_from_queries, TUNING.pack_from_keys, TUNING.always_screen
    found = _C.plain_topk(queries, keys, codes, k, *tuned, torch.get_num_threads())
    if found is not None:
        check_row(found[3], queries.shape[0])
    return found


def _topk(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    allowed: torch.Tensor | None,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    with OneWait(queries):
        return _search_parts(queries, keys, screen, allowed, k)


def _search_parts(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    allowed: torch.Tensor | None,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``allowed``: at least k keys that count; not on devices."""
    if screen or not worth_packing(queries, keys, k):
        return _search(queries, keys, screen, allowed, k)
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for begin, part in parts_to_pack(keys):
        mask = None if allowed is None else allowed[begin : begin + len(part)]
        most = min(k, len(part) if mask is None else int(mask.sum()))
        values, indices, survivors = _search(queries, part, encode(part, begin), mask, most)
        found.append((values, indices + begin, survivors))
        if len(found) == 2:
            first, second = found
            found = [(*merge_best(first[:2], second[:2], k), first[2] + second[2])]
    return found[0]


def merge_best(
    first: Sequence[torch.Tensor], second: Sequence[torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k best of two lists of values and indices, the second's keys after the first's.

    Those of equal value come in order of their indices in each list.
    """
    values, indices = (torch.cat(pair, 1) for pair in zip(first, second, strict=True))
    order = ordered(values).sort(dim=1, descending=True, stable=True).indices[:, :k]
    return values.gather(1, order), indices.gather(1, order)  # stable: ties stay in order


def _search(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    allowed: torch.Tensor | None,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    result = empty_best(queries, k)
    if on_cuda(queries):
        check_finite("queries", queries)
        if not screen:
            check_finite("keys", keys)
        if k > _C.cuda.most_best:
            _sort(queries, keys, *result)
            return result
    mask = as_bytes(allowed)
    check_row(run("topk", queries, keys, screen, mask, *result), len(queries))
    return result


def _sort(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    indices: torch.Tensor,
    survivors: torch.Tensor,
) -> None:
    """Fill the results from all scores, of as many queries at a time as are held."""
    rows = max(1, _C.cuda.tuning.held_scores // len(keys))
    for begin in range(0, len(queries), rows):
        part = queries[begin : begin + rows]
        scores = values.new_empty((len(part), len(keys)))
        run("similarity", part, keys, scores)
        # Adding 0 turns -0 into +0, which it must be equal to.
        order = (scores + 0).sort(dim=1, descending=True, stable=True).indices[:, : values.shape[1]]
        indices[begin : begin + rows] = order
        values[begin : begin + rows] = scores.gather(1, order)
    survivors.fill_(len(queries) * len(keys))


def room(queries: torch.Tensor, keys: torch.Tensor, k: int) -> int:
    """Return how many bytes the search of packed keys works in on a device, at most."""
    if k > _C.cuda.most_best:
        return 28 * min(_C.cuda.tuning.held_scores, len(queries) * len(keys))
    screen = empty_screen(keys)
    return workspace_bytes("topk", queries, keys, screen, None, *empty_best(queries, k))


define(
    "topk(Tensor queries, Tensor keys, Tensor[] screen, Tensor? allowed, int k) ->"
    " (Tensor, Tensor, Tensor)",
    _topk,
    lambda queries, *others: empty_best(queries, others[-1]),
    PICKED,
)


_MORE = 8  # keys that are asked for beyond k, where some are excluded


def _best(queries: Part, keys: Part, k: int) -> State:
    """Return values and numbers of the k best keys that count, or of all if they are fewer.

    Where some are excluded more than k are asked for, until k of them count.
    """
    keys, mask, kept = gathered(queries, keys)
    width = min(k, kept)
    without = excluded(queries, keys)
    if without is None or width == 0:
        values, places = _search_part(queries, keys, mask, width)
        return values, keys.number(places)
    rows, more = torch.arange(len(queries)), min(_MORE, without.shape[1])
    found: list[State] = []
    while len(rows) or not found:
        lists = without[rows]
        values, places = _search_part(queries.at(rows), keys, mask, min(width + more, kept))
        out = contains(lists, places)
        meant = lists >= 0 if mask is None else (lists >= 0) & mask[lists]
        enough = (~out).sum(1) >= (kept - meant.sum(1)).clamp(max=width)
        order = out.sort(dim=1, stable=True).indices[enough, :width]
        values, places, out = (x[enough].gather(1, order) for x in (values, places, out))
        numbers = keys.number(places).masked_fill(out, LAST)
        found.append((rows[enough], values.masked_fill(out, -torch.inf), numbers))
        rows, more = rows[~enough], 4 * more
    order, values, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = order.argsort()
    return values[order], numbers[order]


def _search_part(queries: Part, keys: Part, mask: torch.Tensor | None, k: int) -> State:
    if k == 0:
        return torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    rows = queries.tensor, *as_keys(keys.rows)
    values, places, _ = call("topk", *rows, mask, k)
    return values, places


@register
class BestKeys(Operation):
    """The state holds the best so far, [N, min(k, keys so far)]: values and indices."""

    name = "topk"
    arguments = (K(), *FILTERS)
    fields = ("indices", "values")
    result = TopK
    k: int

    @property
    def row_bytes(self) -> int:
        return 128 * self.k  # two lists of 12 bytes, joined, sorted and cut

    def workspace(self, queries: torch.Tensor, keys: torch.Tensor) -> int:
        return room(queries, keys, self.k)

    def start(self, rows: int) -> State:
        return torch.empty(rows, 0, dtype=torch.float32), torch.empty(rows, 0, dtype=torch.int64)

    def add(self, state: State, block: Part, chunk: Part) -> State:
        return self.merge(state, _best(block, chunk, self.k))

    def finish(self, state: State, rows: torch.Tensor) -> TopK:
        values, indices = state
        indices = indices.masked_fill(indices == LAST, -1)
        missing = 0, self.k - values.shape[1]
        pad = torch.nn.functional.pad
        return TopK(pad(values, missing, value=-torch.inf), pad(indices, missing, value=-1))

    def merge(self, first: State, second: State) -> State:
        if 0 in (first[1].shape[1], second[1].shape[1]):
            return first if second[1].shape[1] == 0 else second
        if first[1].numel() and first[1].max() >= second[1].min():
            first, second = _by_index(first, second)
        return merge_best(first, second, self.k)


def _by_index(first: State, second: State) -> tuple[State, State]:
    """Return the keys of both in order of their indices, with nothing in the second."""
    indices, order = torch.cat([first[1], second[1]], 1).sort(dim=1)
    values = torch.cat([first[0], second[0]], 1).gather(1, order)
    return (values, indices), (values[:, :0], indices[:, :0])
