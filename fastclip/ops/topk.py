"""The best keys of each query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeAlias, cast, overload

import torch

from fastclip import _C
from fastclip.engine.answer import Keys, answer, elsewhere
from fastclip.engine.arguments import K
from fastclip.engine.checks import (
    Array,
    as_integer,
    as_rows,
    check_finite,
    check_k,
    check_same_width,
    matrix,
    not_finite,
    plain_tensors,
    screen_keys,
    with_adjacent_elements,
)
from fastclip.engine.devices import on_cuda
from fastclip.engine.floats import ordered
from fastclip.engine.operation import Operation, Part, State, register
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.packing import encode, packed_from, parts_to_pack, worth_packing
from fastclip.engine.scalars import INT64_MAX
from fastclip.engine.transforms import Gradient, call, define, must_dispatch
from fastclip.ops import _search_cuda
from fastclip.ops._gather import picked_backward, picked_jvp, save_picked


class TopK(NamedTuple):
    """The k best keys of each query, best first."""

    values: torch.Tensor
    """[N, k] float32: exact scores."""
    indices: torch.Tensor
    """[N, k] int64: rows of ``keys``."""


@overload
def topk(
    queries: Array,
    keys: Keys,
    k: SupportsIndex,
    *,
    return_survivors: Literal[False] = ...,
) -> TopK: ...
@overload
def topk(
    queries: Array,
    keys: Keys,
    k: SupportsIndex,
    *,
    return_survivors: Literal[True],
) -> tuple[TopK, torch.Tensor]: ...
def topk(
    queries: Array,
    keys: Keys,
    k: SupportsIndex,
    *,
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
    queries : tensor or array [N, d], float32, float16 or bfloat16
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], PackedKeys, rows in files, or ShardedKeys
        Their rows may have any stride.
    k : int, 1 <= k <= V
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
    k = as_integer("k", k)
    packed = isinstance(keys, PackedKeys)
    tensors = plain_tensors()
    found: _Found | None = None
    if tensors is not None and 1 <= k <= INT64_MAX:
        rows = keys.rows if isinstance(keys, PackedKeys) else keys
        threads = torch.get_num_threads()
        found = tensors.topk(queries, rows, packed, k, *packed_from(), threads)
        if found is not None:
            _check_found(found[2], queries.shape[0])
        elif (
            isinstance(keys, PackedKeys)
            and (matrices := tensors.plain(queries, rows))
            and 1 <= k <= matrices[1].rows
        ):
            codes = screen_keys(as_keys(keys)[1], keys.rows)
            found = _search(*matrices, codes, k)
    if found is None:
        if elsewhere(keys):
            best = answer(BestKeys, queries, keys, k=k, return_survivors=return_survivors)
            return cast(TopK, best)
        query_rows = as_rows("queries", queries)
        key_rows, screen = as_keys(keys)
        check_same_width(query_rows, key_rows)
        check_k(k, key_rows.shape[0])
        arguments = query_rows, key_rows, screen, k
        # Without an operator, the number of survivors need not become a tensor.
        found = call("topk", *arguments) if must_dispatch(*arguments) else _find(*arguments)
    values, indices, survivors = found
    best = TopK(values, indices)
    return (best, torch.as_tensor(survivors, device=values.device)) if return_survivors else best


def _topk(
    queries: torch.Tensor, keys: torch.Tensor, screen: list[torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    values, indices, survivors = _find(queries, keys, screen, k)
    return values, indices, torch.as_tensor(survivors, device=values.device)


_Found: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor | int]
"""Values, indices and how many pairs were scored."""


def _find(queries: torch.Tensor, keys: torch.Tensor, screen: list[torch.Tensor], k: int) -> _Found:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    search = _search_on_cuda if on_cuda(queries) else _search_on_cpu
    if screen or not worth_packing(queries, keys, k):
        return search(queries, keys, screen, k)
    found: list[_Found] = []
    for begin, part in parts_to_pack(keys):
        values, indices, survivors = search(queries, part, encode(part, begin), min(k, len(part)))
        found.append((values, indices + begin, survivors))
        if len(found) == 2:
            first, second = found
            best = merge_best(first[:2], second[:2], k)
            found = [(*best, first[2] + second[2])]
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


def _search_on_cuda(
    queries: torch.Tensor, keys: torch.Tensor, screen: list[torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_finite("queries", queries)
    if not screen:
        check_finite("keys", keys)
    values, indices, survivors = _topk_fake(queries, keys, screen, k)
    _search_cuda.topk(queries, keys, screen, values, indices, survivors)
    return values, indices, survivors


def _search_on_cpu(
    queries: torch.Tensor, keys: torch.Tensor, screen: list[torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    return _search(matrix(queries), matrix(keys), screen_keys(screen, keys), k)


def _search(
    queries: _C.Matrix, keys: _C.Matrix, codes: _C.ScreenKeys | None, k: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    count = queries.rows
    values = torch.empty(count, k, dtype=torch.float32, device="cpu")
    indices = torch.empty(count, k, dtype=torch.int64, device="cpu")
    threads = torch.get_num_threads()
    scored = _C.topk(queries, keys, codes, k, values.data_ptr(), indices.data_ptr(), threads)
    _check_found(scored, count)
    return values, indices, scored


def _check_found(scored: int, queries: int) -> None:
    if scored < 0:
        row = -1 - scored
        raise not_finite("queries", row) if row < queries else not_finite("keys", row - queries)


def _topk_fake(
    queries: torch.Tensor, keys: torch.Tensor, screen: list[torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = (queries.shape[0], k)
    return (
        queries.new_empty(shape, dtype=torch.float32),
        queries.new_empty(shape, dtype=torch.int64),
        queries.new_empty((), dtype=torch.int64),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    queries, keys, screen, _ = inputs
    _, indices, survivors = output
    save_picked(ctx, queries, keys, indices)
    ctx.mark_non_differentiable(indices, survivors)
    ctx.screen_tensors = len(screen)


def _backward(ctx: Any, grad_values: torch.Tensor, *_: torch.Tensor | None) -> tuple[Any, ...]:
    return (*picked_backward(ctx, grad_values), [None] * ctx.screen_tensors, None)


define(
    "topk(Tensor queries, Tensor keys, Tensor[] screen, int k) -> (Tensor, Tensor, Tensor)",
    _topk,
    _topk_fake,
    Gradient(_backward, _setup_context, picked_jvp),
)


@register
class BestKeys(Operation):
    """The state holds the best so far, [N, min(k, keys so far)]: values and indices."""

    name = "topk"
    arguments = (K(),)
    fields = ("indices", "values")
    result = TopK
    k: int

    @property
    def row_bytes(self) -> int:
        return 128 * self.k  # two lists of 12 bytes, joined, sorted and cut

    def workspace(self, rows: int, others: int) -> int:
        return _search_cuda.topk_workspace(rows, others, self.sides.width, self.k)

    def start(self, rows: int) -> State:
        return torch.empty(rows, 0, dtype=torch.float32), torch.empty(rows, 0, dtype=torch.int64)

    def add(self, state: State, block: Part, chunk: Part) -> State:
        if len(chunk) == 0:
            return state
        values, indices = topk(block.rows, chunk.rows, min(self.k, len(chunk)))
        return self.merge(state, (values, indices + chunk.begin))

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
