"""An operation over ranks: queries of all ranks in blocks, answers back to whom they belong."""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch

from fastclip.engine.arguments import GroupColumn, Sides
from fastclip.engine.checks import Array, as_rows, check_finite, check_same_width
from fastclip.engine.groups import check_count, check_sizes
from fastclip.engine.operation import Operation, Part, State
from fastclip.engine.pair_scores import pair_scores
from fastclip.engine.sharded import ShardedKeys
from fastclip.engine.tuning import TUNING


class _Call(NamedTuple):
    """What this rank asks."""

    operation: Operation
    queries: torch.Tensor
    most: int
    """How many queries a rank has at most."""


def ask(
    kind: type[Operation],
    queries: Array,
    keys: ShardedKeys,
    given: dict[str, Any],
    check: Callable[[], None],
) -> Any:
    """Ask all keys; return the answer for this rank's queries, or keys. Collective.

    ``check`` looks at what else this rank was asked for; where it raises, all ranks do.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of the function in memory, or an argument differs between the ranks.
    """
    operation, own, most = _agreed(kind, queries, keys, given, check)
    operation = operation.over_ranks()
    local = Part(keys.local, keys.begin, operation.columns("key", 0, len(keys.rows)))
    with keys.rows.device:
        if operation.once:
            state = _of_all_keys(operation, local, keys)
        elif operation.row == "key":
            state = operation.start(len(local))
            for block in _blocks(operation, own, most, keys):
                state = operation.add(state, local, block.part)
            own = keys.rows
        else:
            blocks = _blocks(operation, own, most, keys)
            state = operation.join([_of_block(operation, b, local, keys) for b in blocks])
        return operation.finish(state, own)


def _agreed(
    kind: type[Operation],
    queries: Array,
    keys: ShardedKeys,
    given: dict[str, Any],
    check: Callable[[], None],
) -> _Call:
    """Check the arguments on all ranks."""
    made: list[tuple[Operation, torch.Tensor]] = []

    def describe() -> dict[str, Any]:
        check()
        rows = as_rows("queries", queries).detach()
        check_same_width(rows, keys.rows)
        check_finite("queries", rows)
        total, width = keys.shape
        sides = Sides(len(rows), total, len(keys.rows), width, rows.device, spread=True)
        operation = kind(sides, **given)
        made.append((operation, rows))
        _ = keys.local  # packs the keys, which may fail for want of memory
        groups = _groups(operation)
        num_groups = 0 if groups is None else groups.num_groups
        return {"function": kind.name, **operation.shared(), "own": (len(rows), num_groups)}

    of_ranks = keys.ranks.agree(describe, own="own")
    ((operation, rows),) = made
    if (groups := _groups(operation)) is not None:
        groups.num_groups = max(number for _, number in of_ranks)
        check_count("groups", groups.num_groups, len(keys))
        sizes = [sizes for (sizes,) in keys.ranks.share(groups.sizes())]
        check_sizes(torch.stack(sizes).sum(0), " on any rank")
    return _Call(operation, rows, max(count for count, _ in of_ranks))


def _groups(operation: Operation) -> GroupColumn | None:
    groups = getattr(operation, "groups", None)
    return groups if isinstance(groups, GroupColumn) else None


class _Block(NamedTuple):
    """Queries of all ranks, in order of the ranks, and how many are from each."""

    part: Part
    sizes: list[int]


def _blocks(
    operation: Operation, own: torch.Tensor, most: int, keys: ShardedKeys
) -> Iterator[_Block]:
    """Yield the queries of all ranks, at least one block."""
    columns = operation.columns("query", 0, len(own))
    size = max(1, TUNING.rank_queries // keys.ranks.size)
    for begin in range(0, max(1, most), size):
        sent = (x[begin : begin + size] for x in (own, *columns.values()))
        found = keys.ranks.share(*sent)
        rows, *others = (torch.cat(_as_wide(parts)) for parts in zip(*found, strict=True))
        part = Part(rows, 0, dict(zip(columns, others, strict=True)))
        if operation.has_targets:
            part.columns["target_scores"] = _target_scores(part, keys)
        yield _Block(part, [len(tensors[0]) for tensors in found])


def _as_wide(tables: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return tables of the ranks with as many columns each: lists of keys may be shorter."""
    if tables[0].ndim == 1:
        return list(tables)
    width = max(table.shape[1] for table in tables)
    pad = torch.nn.functional.pad
    return [pad(table, (width - table.shape[1], 0), value=-1) for table in tables]


def _target_scores(block: Part, keys: ShardedKeys) -> torch.Tensor:
    """Scores of the queries of all ranks with their targets, on all ranks: minus infinity from all
    ranks but the one that has the target."""

    def find() -> list[State]:
        places = block.columns["targets"] - keys.begin
        here = ((places >= 0) & (places < len(keys.rows))).nonzero()[:, 0]
        scores = torch.full((len(block),), -torch.inf, dtype=torch.float32, device=places.device)
        scores[here] = pair_scores(block.tensor[here], keys.rows, places[here])
        return [(scores,)] * keys.ranks.size

    of_ranks = torch.stack([scores for (scores,) in keys.ranks.exchange(1, find)])
    return of_ranks.gather(0, (of_ranks > -torch.inf).long().argmax(0)[None])[0]


def _of_block(operation: Operation, block: _Block, local: Part, keys: ShardedKeys) -> State:
    """Return the state of this rank's queries after the keys of all."""

    def find() -> list[State]:
        state = operation.add(operation.start(len(block.part)), block.part, local)
        return operation.split(state, block.sizes)

    found = keys.ranks.exchange(len(operation.start(0)), find)
    return reduce(operation.merge, found)


def _of_all_keys(operation: Operation, local: Part, keys: ShardedKeys) -> State:
    """Return the state of all keys, which is that of each query. Each rank merges some rows of it,
    in order of the ranks."""
    ranks = keys.ranks
    none = Part(keys.rows[:0])

    def find() -> list[State]:
        state = operation.add(operation.start(0), none, local)
        return list(zip(*(part.tensor_split(ranks.size) for part in state), strict=True))

    some = reduce(operation.merge, ranks.exchange(len(operation.start(0)), find))
    return operation.join(ranks.share(*some))
