"""The searches on CUDA devices: what they ask of the extension and of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from fastclip import _C
from fastclip.engine.checks import matrix, screen_keys
from fastclip.engine.devices import stream_of, workspace
from fastclip.engine.packing import encode, worth_packing

# At a time, at most; less needs less memory.
_TOPK_QUERIES = 1 << 14
_CANDIDATES = 1 << 13  # of one query: a power of two, from 256 on
_QUERIES = 1 << 13
_PAIRS = 1 << 30  # that are screened: below 2^31
_OPEN = 1 << 22  # of these, pairs that the screen does not decide
_SCORES = 1 << 26  # held in memory where no kernel does without
_KEY_STEP = 256  # a search of some keys begins at a multiple of this


def topk(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    values: torch.Tensor,
    indices: torch.Tensor,
    scored: torch.Tensor,
) -> None:
    """Fill ``values`` and ``indices`` [N, k], and ``scored`` with how many pairs were scored."""
    count, k = values.shape
    if k > _C.cuda.most_best:
        _topk_by_sorting(queries, keys, values, indices)
        scored.fill_(count * len(keys))
        return
    _search(
        "topk",
        lambda rows: _C.cuda.TopKPlan(count, k, rows, _CANDIDATES),
        _TOPK_QUERIES,
        queries,
        keys,
        screen,
        values,
        indices,
        scored,
    )


def topk_workspace(queries: int, keys: int, width: int, k: int) -> int:
    """Return how many bytes the search of packed keys works in, at most."""
    if k > _C.cuda.most_best:
        return 28 * min(_SCORES, queries * keys)
    plan = _C.cuda.TopKPlan(queries, k, min(queries, _TOPK_QUERIES), _CANDIDATES)
    return plan.workspace(_C.code_width(width))


def _topk_by_sorting(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, indices: torch.Tensor
) -> None:
    rows = max(1, _SCORES // len(keys))
    for begin in range(0, len(queries), rows):
        part = queries[begin : begin + rows]
        scores = values.new_empty((len(part), len(keys)))
        with stream_of(queries) as stream:
            _C.cuda.similarity(matrix(part), matrix(keys), matrix(scores), stream)
        # Adding 0 turns -0 into +0, which it must be equal to.
        order = (scores + 0).sort(dim=1, descending=True, stable=True).indices[:, : values.shape[1]]
        indices[begin : begin + rows] = order
        values[begin : begin + rows] = scores.gather(1, order)


def count_ahead(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    scores: torch.Tensor,
    ties: torch.Tensor,
    per_key: bool,
    counts: torch.Tensor,
    scored: torch.Tensor,
) -> None:
    """Fill ``counts`` [V] if ``per_key``, else [N]."""
    both = (None, counts) if per_key else (counts, None)
    _search_fixed("count_ahead", queries, keys, screen, scores, ties, *both, scored)


def fixed_workspace(queries: int, keys: int, width: int) -> int:
    """Return how many bytes a search against known thresholds works in, at most."""
    plan = _C.cuda.FixedPlan(queries, keys, min(queries, _QUERIES), _PAIRS, _OPEN)
    return plan.workspace(_C.code_width(width))


def group_beats(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    scores: torch.Tensor,
    ties: torch.Tensor,
    groups: torch.Tensor,
    bits: torch.Tensor,
    scored: torch.Tensor,
) -> None:
    """Fill ``bits`` [N, words]."""
    screen = _screen_for(queries, keys, screen)
    words = bits.shape[1]
    _search_fixed("group_beats", queries, keys, screen, scores, ties, groups, words, bits, scored)


def group_max(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    groups: torch.Tensor,
    values: torch.Tensor,
    indices: torch.Tensor,
    scored: torch.Tensor,
) -> None:
    """Fill ``values`` and ``indices`` [N, G]."""
    screen = _screen_for(queries, keys, screen)
    count, num_groups = values.shape
    _search(
        "group_max",
        lambda rows: _C.cuda.GroupPlan(count, len(keys), num_groups, rows, _PAIRS, _OPEN),
        _QUERIES,
        queries,
        keys,
        screen,
        groups,
        values,
        indices,
        scored,
    )


def group_max_workspace(queries: int, keys: int, width: int, num_groups: int) -> int:
    """Return how many bytes the search works in, at most."""
    rows = min(queries, _QUERIES)
    plan = _C.cuda.GroupPlan(queries, keys, num_groups, rows, _PAIRS, _OPEN)
    return plan.workspace(_C.code_width(width))


def pairs_above(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    threshold: float,
    later_only: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return query * V + key of each pair, in order, and their scores."""
    screen = _screen_for(queries, keys, screen)
    limit = torch.tensor(threshold, dtype=torch.float64, device="cpu").float().to(queries.device)
    none = torch.empty(0, dtype=torch.int64, device=queries.device)
    places, scores = [none], [none.float()]
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
    return place, torch.cat(scores)[order]


def _blocks(queries: int, keys: int, screened: bool) -> Iterator[tuple[range, range, int]]:
    """Yield queries and keys to be taken together, and for how many pairs there should be room."""
    height, width = max(1, _SCORES // max(1, keys)), max(1, keys)
    if screened:
        height = min(queries, _QUERIES)
        width = max(1, _PAIRS // max(1, height) // _KEY_STEP) * _KEY_STEP
    for i in range(0, queries, max(1, height)):
        for j in range(0, keys, width):
            rows, columns = range(i, min(i + height, queries)), range(j, min(j + width, keys))
            yield rows, columns, min(_OPEN, len(rows) * len(columns))


def _exact_pairs(
    queries: torch.Tensor, keys: torch.Tensor, limit: torch.Tensor, later_only: bool, rows: range
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = limit.new_empty((len(rows), len(keys)))
    with stream_of(queries) as stream:
        _C.cuda.similarity(
            matrix(queries[rows.start : rows.stop]), matrix(keys), matrix(scores), stream
        )
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
    thresholds = limit.expand(len(rows)).contiguous()
    size = _C.cuda.maybe_above_workspace(len(rows), _width(screen))
    memory = torch.empty(size, dtype=torch.uint8, device=part.device)
    packed = _described(screen, keys)
    assert packed is not None
    with stream_of(part) as stream:
        _C.cuda.maybe_above(
            matrix(part),
            packed,
            (columns.start, columns.stop),
            thresholds.data_ptr(),
            later_only,
            rows.start,
            pairs.data_ptr(),
            room,
            count.data_ptr(),
            memory.data_ptr(),
            stream,
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
    with stream_of(part) as stream:
        _C.cuda.list_scores(
            matrix(part), matrix(keys), pairs.data_ptr(), found, scores.data_ptr(), stream
        )
    above = scores > limit
    row, column = pairs[:found][above].long().T
    yield (row + rows.start) * len(keys) + column, scores[above]


def _screen_for(
    queries: torch.Tensor, keys: torch.Tensor, screen: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Return what keys that are not packed can be screened by, if that pays."""
    return encode(keys) if not screen and worth_packing(queries, keys) else screen


def _described(screen: list[torch.Tensor], keys: torch.Tensor) -> _C.ScreenKeys | None:
    if len(keys) > _C.cuda.most_keys:
        raise ValueError(
            f"keys: at most {_C.cuda.most_keys} can be searched at a time on a CUDA device, "
            f"got {len(keys)}"
        )
    return screen_keys(screen, keys)


def _width(screen: list[torch.Tensor]) -> int:
    return _C.code_width(len(screen[2])) if screen else 0


def _search_fixed(
    operation: str,
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    *arguments: torch.Tensor | int | None,
) -> None:
    """Search against thresholds that are known."""

    def plan(rows: int) -> _C._Plan:
        return _C.cuda.FixedPlan(len(queries), len(keys), rows, _PAIRS, _OPEN)

    _search(operation, plan, _QUERIES, queries, keys, screen, *arguments)


def _search(
    operation: str,
    plan: Callable[[int], _C._Plan],
    most: int,
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    *arguments: torch.Tensor | int | None,
) -> None:
    """Call a search of the extension with the plan for so many queries, up to ``most``, at a time
    as there is room for. Its ``arguments`` are between the plan and the workspace."""
    width = _width(screen)
    memory, rows = workspace(
        operation,
        lambda rows: plan(rows).workspace(width),
        max(1, min(len(queries), most)),
        queries,
    )
    with stream_of(queries) as stream:
        getattr(_C.cuda, operation)(
            matrix(queries),
            matrix(keys),
            _described(screen, keys),
            plan(rows),
            *map(_address, arguments),
            memory.data_ptr(),
            stream,
        )


def _address(argument: torch.Tensor | int | None) -> int:
    if isinstance(argument, torch.Tensor):
        return argument.data_ptr()
    return 0 if argument is None else argument
