"""All pairs above a threshold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import SupportsFloat, cast

import torch

from fastclip import _C
from fastclip.engine.answer import Keys, answer, elsewhere
from fastclip.engine.arguments import Threshold
from fastclip.engine.checks import (
    Array,
    as_rows,
    as_threshold,
    check_finite,
    check_same_width,
    matrix,
    screen_keys,
    with_adjacent_elements,
)
from fastclip.engine.devices import on_cuda
from fastclip.engine.operation import Fields, Operation, Part, State, register
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.transforms import call, define
from fastclip.ops import _search_cuda


def pairs_above(queries: Array | PackedKeys, keys: Keys, threshold: SupportsFloat) -> torch.Tensor:
    """Return every pair of a query and a key with a score above ``threshold``, and the scores.

    The non-zero part of ``s * (s > threshold)`` for ``s = queries @ keys.T``, without the [N, V]
    matrix. Scores are those of :func:`fastclip.topk`; strictly above. Where ``queries is keys``,
    each pair of two rows comes once, with the earlier row as query: near-duplicates of a set. The
    answer is the same to the bit for any number of threads, instruction set and device,
    packed or not.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16, or PackedKeys
    keys : tensor or array [V, d], PackedKeys, rows in files, or ShardedKeys
        Packed keys are screened: only scores that may pass are computed.
    threshold : float
        Rounded to float32, beyond its range to infinity.

    Returns
    -------
    Tensor [N, V], float32, sparse CSR with int64 indices
        In order of rows and columns. Beyond inputs and result, 24 bytes for each pair, and each
        thread uses about 24 bytes * 512 * d of workspace and 2 MiB. On CUDA devices 48 bytes for
        each pair, the w + 50 bytes of each of up to 8,192 queries, w being d rounded up to a
        multiple of 64, and 48 MiB (V (w + 12) bytes more for unpacked keys).

    Raises
    ------
    TypeError
        An argument is no array or has another dtype.
    ValueError
        An argument has a wrong shape, is on another device, or holds NaN or infinity, or the
        threshold is NaN.

    Examples
    --------
    >>> import fastclip
    >>> lvis = fastclip.data.load_sample("lvis").normalized()
    >>> pairs = fastclip.pairs_above(lvis.features, lvis.features, 0.95).to_sparse_coo()
    >>> [(lvis.names[i], lvis.names[j]) for i, j in pairs.indices().T[:3]]
    [('alcohol', 'liquor'), ('armchair', 'chair'), ('baseball', 'softball')]
    """
    if elsewhere(keys):
        return cast(torch.Tensor, answer(_PairsAbove, queries, keys, threshold=threshold))
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
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
        place, values = _search_cuda.pairs_above(queries, keys, screen, threshold, later_only)
        ends = torch.arange(1, len(queries) + 1, device=place.device) * len(keys)
        crow = torch.cat([ends.new_zeros(1), torch.searchsorted(place, ends)])
        return crow, place % max(1, len(keys)), values
    pairs = _C.pairs_above(
        matrix(queries),
        matrix(keys),
        screen_keys(screen, keys),
        threshold,
        later_only,
        torch.get_num_threads(),
    )
    crow = torch.empty(queries.shape[0] + 1, dtype=torch.int64, device="cpu")
    col = torch.empty(len(pairs), dtype=torch.int64, device="cpu")
    values = torch.empty(len(pairs), dtype=torch.float32, device="cpu")
    pairs.write(queries.shape[0], crow.data_ptr(), col.data_ptr(), values.data_ptr())
    return crow, col, values


def _pairs_above_fake(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    threshold: float,
    later_only: bool,
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
    arguments = (Threshold(),)
    fields = ("indices", "values")
    sparse = True
    of_one_set = True
    row_bytes = 64  # and what the pairs take, which nobody knows before
    threshold: float

    def workspace(self, rows: int, others: int) -> int:
        scores = 24 << 20  # of pairs that the screen leaves open
        return _search_cuda.fixed_workspace(rows, others, self.sides.width) + scores

    def start(self, rows: int) -> State:
        none = torch.empty(0, dtype=torch.int64)
        return torch.zeros(rows, dtype=torch.int64), none, none, none.float()

    def add(self, state: State, block: Part, chunk: Part) -> State:
        starts, keys, scores = call(
            "pairs_above", block.tensor, *as_keys(chunk.rows), self.threshold, False
        )
        rows = torch.arange(len(block), device=starts.device).repeat_interleave(starts.diff())
        keys += chunk.begin
        if self.sides.one_set:
            later = keys > rows + block.begin
            rows, keys, scores = rows[later], keys[later], scores[later]
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
