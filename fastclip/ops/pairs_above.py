"""All pairs above a threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, SupportsFloat, cast

import torch

from fastclip import _C
from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import Threshold
from fastclip.engine.checks import (
    Array,
    as_rows,
    as_threshold,
    check_finite,
    check_same_width,
    with_adjacent_elements,
)
from fastclip.engine.devices import on_cuda
from fastclip.engine.filters import FILTERS, Excluding, excluded, gathered
from fastclip.engine.kernels import run
from fastclip.engine.operation import Fields, Operation, Part, State, register
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.packing import encode, worth_packing
from fastclip.engine.transforms import call, define
from fastclip.ops._count import search_room
from fastclip.ops._sparse import making_sparse


def pairs_above(
    queries: Queries | PackedKeys,
    keys: Keys,
    threshold: SupportsFloat,
    *,
    allowed: Array | None = None,
    exclude: Excluding | None = None,
) -> torch.Tensor:
    """Return every pair of a query and a key with a score above ``threshold``, and the scores.

    The non-zero part of ``s * (s > threshold)`` for ``s = queries @ keys.T``, without the [N, V]
    matrix. Scores are those of :func:`fastclip.topk`; strictly above. Where ``queries is keys``,
    each pair of two rows comes once, with the earlier row as query: near-duplicates of a set. The
    answer is the same to the bit for any number of threads, instruction set and device,
    packed or not.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16, or PackedKeys
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
        Packed keys are screened: only scores that may pass are computed.
    threshold : float
        Rounded to float32, beyond its range to infinity.
    allowed, exclude
        As of :func:`fastclip.topk`: keys that do not count. Where ``queries is keys``, the later
        row of a pair is the key.

    Returns
    -------
    Tensor [N, V], float32, sparse CSR with int64 indices
        `fastclip.neighbors.to_scipy` makes a scipy.sparse array of it. In order of rows and
        columns. Beyond inputs and result, 24 bytes for each pair, and each thread uses about 24
        bytes * 512 * d of workspace and 2 MiB. On CUDA devices 48 bytes for each pair, the w + 50
        bytes of each of up to 8,192 queries, w being d rounded up to a multiple of 64, and 48 MiB
        (V (w + 12) bytes more for unpacked keys).

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk` but for k, or the threshold is NaN.

    Examples
    --------
    >>> import fastclip
    >>> lvis = fastclip.data.load_sample("lvis").normalized()
    >>> pairs = fastclip.pairs_above(lvis.features, lvis.features, 0.95).to_sparse_coo()
    >>> [(lvis.names[i], lvis.names[j]) for i, j in pairs.indices().T[:3]]
    [('alcohol', 'liquor'), ('armchair', 'chair'), ('baseball', 'softball')]
    """
    if elsewhere(keys, allowed, exclude):
        if isinstance(queries, PackedKeys) and queries is not keys:
            queries = queries.rows
        given = {"threshold": threshold, "allowed": allowed, "exclude": exclude}
        return cast(torch.Tensor, answer(_PairsAbove, queries, keys, **given))
    once = queries is keys
    query_rows = queries.rows if isinstance(queries, PackedKeys) else as_rows("queries", queries)
    key_rows, screen = as_keys(keys)
    check_same_width(query_rows, key_rows)
    threshold = as_threshold("threshold", threshold)
    crow, col, values = call(
        "pairs_above", query_rows.detach(), key_rows.detach(), screen, threshold, once
    )
    return _matrix(crow, col, values, (query_rows.shape[0], key_rows.shape[0]))


def _matrix(
    crow: torch.Tensor, col: torch.Tensor, values: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    with making_sparse():
        return torch.sparse_csr_tensor(
            crow, col, values, shape, device=values.device, check_invariants=False
        )


def _pairs_above(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    threshold: float,
    later_only: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    check_finite("queries", queries)
    if not screen:
        check_finite("keys", keys)
    if on_cuda(queries):
        return _on_device(queries, keys, screen, threshold, later_only)
    pairs = run("pairs_above", queries, keys, screen, threshold, later_only)
    crow = torch.empty(queries.shape[0] + 1, dtype=torch.int64, device="cpu")
    col = torch.empty(len(pairs), dtype=torch.int64, device="cpu")
    values = torch.empty(len(pairs), dtype=torch.float32, device="cpu")
    pairs.write(crow, col, values)
    return crow, col, values


def _on_device(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    threshold: float,
    later_only: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find the pairs block by block; their number is not known before."""
    if not screen and worth_packing(queries, keys):
        screen = encode(keys)
    limit = torch.tensor(threshold, dtype=torch.float64, device="cpu").float().to(queries.device)
    none = torch.empty(0, dtype=torch.int64, device=queries.device)
    places, scores = [none], [none.float()]  # query * V + key of each pair, and its score
    for rows, columns, room in _blocks(len(queries), len(keys), bool(screen)):
        if later_only and columns.stop <= rows.start:
            continue
        if screen:
            found = _screened_pairs(queries, keys, screen, limit, later_only, rows, columns, room)
        else:
            found = iter([_exact_pairs(queries, keys, limit, later_only, rows)])
        for place, score in found:
            places.append(place)
            scores.append(score)
    place, order = torch.cat(places).sort()
    ends = torch.arange(1, len(queries) + 1, device=place.device) * len(keys)
    crow = torch.cat([ends.new_zeros(1), torch.searchsorted(place, ends)])
    return crow, place % max(1, len(keys)), torch.cat(scores)[order]


def _blocks(queries: int, keys: int, screened: bool) -> Iterator[tuple[range, range, int]]:
    """Yield queries and keys to be taken together, and for how many pairs there should be room."""
    tuning = _C.cuda.tuning
    height, width = max(1, tuning.held_scores // max(1, keys)), max(1, keys)
    if screened:
        height = min(queries, tuning.search_queries)
        step = _C.cuda.key_alignment
        width = max(1, tuning.search_pairs // max(1, height) // step) * step
    for i in range(0, queries, max(1, height)):
        for j in range(0, keys, width):
            rows, columns = range(i, min(i + height, queries)), range(j, min(j + width, keys))
            yield rows, columns, min(tuning.search_open, len(rows) * len(columns))


def _exact_pairs(
    queries: torch.Tensor, keys: torch.Tensor, limit: torch.Tensor, later_only: bool, rows: range
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = limit.new_empty((len(rows), len(keys)))
    run("similarity", queries[rows.start : rows.stop], keys, scores)
    above = scores > limit
    if later_only:
        above = above.triu(rows.start + 1)
    row, column = above.nonzero(as_tuple=True)
    return (row + rows.start) * len(keys) + column, scores[row, column]


def _screened_pairs(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    limit: torch.Tensor,
    later_only: bool,
    rows: range,
    columns: range,
    room: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    part = queries[rows.start : rows.stop]
    pairs = torch.empty((room, 2), dtype=torch.int32, device=part.device)
    count = torch.empty((), dtype=torch.int32, device=part.device)
    limits = limit.expand(len(rows)).contiguous()
    of_keys = columns.start, columns.stop
    run(
        "maybe_above",
        *(part, keys, screen, *of_keys, limits, later_only, rows.start),
        *(pairs, count),
    )
    found = int(count)
    if found > room:
        # So many rows at a time that their pairs should have room, and a single one has for sure.
        step = max(1, len(rows) * room // (2 * found))
        for i in range(rows.start, rows.stop, step):
            fewer = range(i, min(i + step, rows.stop))
            enough = max(room, len(columns)) if len(fewer) == 1 else room
            yield from _screened_pairs(
                queries, keys, screen, limit, later_only, fewer, columns, enough
            )
        return
    scores = limit.new_empty(found)
    run("list_scores", part, keys, pairs[:found], scores)
    above = scores > limit
    row, column = pairs[:found][above].long().T
    yield (row + rows.start) * len(keys) + column, scores[above]


def _pairs_above_fake(
    queries: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return (
        queries.new_empty((queries.shape[0] + 1,), dtype=torch.int64),
        queries.new_empty((count,), dtype=torch.int64),
        queries.new_empty((count,), dtype=torch.float32),
    )


define(
    "pairs_above(Tensor queries, Tensor keys, Tensor[] screen, float threshold, bool later_only)"
    " -> (Tensor, Tensor, Tensor)",
    _pairs_above,
    _pairs_above_fake,
)


@register
class _PairsAbove(Operation):
    """The state holds how many pairs each query has, [N], then queries, keys and scores of all."""

    name = "pairs_above"
    arguments = (Threshold(), *FILTERS)
    fields = ("indices", "values")
    sparse = True
    of_one_set = True
    row_bytes = 64  # and what the pairs take, which nobody knows before
    threshold: float

    def workspace(self, queries: torch.Tensor, keys: torch.Tensor) -> int:
        scores = 24 << 20  # of pairs that the screen leaves open
        return search_room(queries, keys) + scores

    def start(self, rows: int) -> State:
        none = torch.empty(0, dtype=torch.int64)
        return torch.zeros(rows, dtype=torch.int64), none, none, none.float()

    def add(self, state: State, block: Part, chunk: Part) -> State:
        chunk, mask, _ = gathered(block, chunk)
        rows_of_both = block.tensor.detach(), *as_keys(chunk.rows)
        same = self.sides.one_set and chunk.numbers is None and chunk.begin == block.begin
        starts, places, scores = call("pairs_above", *rows_of_both, self.threshold, same)
        rows = torch.arange(len(block), device=starts.device).repeat_interleave(starts.diff())
        keys = chunk.number(places)
        left = torch.ones_like(keys, dtype=torch.bool) if mask is None else mask[places]
        if (without := excluded(block, chunk)) is not None:
            count = max(1, len(chunk))
            pairs = (without + torch.arange(len(block))[:, None] * count)[without >= 0]
            left &= ~torch.isin(rows * count + places, pairs)
        if self.sides.one_set and not same:
            left &= keys > rows + block.begin
        if not left.all():
            rows, keys, scores = rows[left], keys[left], scores[left]
        counts = torch.bincount(rows, minlength=len(block))
        return self.merge(state, (counts, rows, keys, scores))

    def merge(self, first: State, second: State) -> State:
        lists = (torch.cat(pair) for pair in zip(first[1:], second[1:], strict=True))
        return (first[0] + second[0], *lists)

    def split(self, state: State, sizes: Sequence[int]) -> list[State]:
        counts, rows, keys, scores = state
        order = rows.argsort(stable=True)
        of_parts = [int(part.sum()) for part in counts.split(list(sizes))]
        begins = torch.tensor([0, *sizes[:-1]], device=rows.device).cumsum(0)
        lists = zip(*(x[order].split(of_parts) for x in (rows, keys, scores)), strict=True)
        return [
            (part, own - begin, *others)
            for part, begin, (own, *others) in zip(
                counts.split(list(sizes)), begins, lists, strict=True
            )
        ]

    def join(self, states: Sequence[State]) -> State:
        begins = torch.tensor([0, *(len(state[0]) for state in states[:-1])]).cumsum(0)
        shifted = [
            (counts, rows + int(begin), keys, scores)
            for begin, (counts, rows, keys, scores) in zip(begins, states, strict=True)
        ]
        return super().join(shifted)

    def finish(self, state: State, rows: torch.Tensor) -> torch.Tensor:
        counts, of_pairs, keys, scores = state
        order = keys.argsort()
        order = order[of_pairs[order].argsort(stable=True)]
        starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return _matrix(starts, keys[order], scores[order], (len(counts), self.sides.keys))

    def to_fields(self, answer: torch.Tensor) -> Fields:
        indices, values = answer.col_indices(), answer.values()
        return {"starts": answer.crow_indices(), "indices": indices, "values": values}

    @classmethod
    def from_fields(cls, columns: Fields, shape: tuple[int, int]) -> torch.Tensor:
        return _matrix(columns["starts"], columns["indices"], columns["values"], shape)
