"""Questions about keys that are not one array in memory: how they are answered."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, TypeAlias

import torch

from fastclip.data.rows import Rows
from fastclip.engine import rounds
from fastclip.engine.arguments import Sides
from fastclip.engine.checks import (
    Array,
    as_rows,
    check_finite,
    check_same_width,
    check_some_rows,
    check_width,
)
from fastclip.engine.filters import blocks_of, check_no_batch
from fastclip.engine.operation import Operation, Part, State, concatenated
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.packing import pack, worth_packing
from fastclip.engine.pair_scores import pair_scores
from fastclip.engine.sharded import ShardedKeys
from fastclip.engine.sources import MemoryRows, as_source
from fastclip.engine.stream import Question, make_plan, states
from fastclip.engine.tuning import TUNING

Keys: TypeAlias = "Array | PackedKeys | Rows | ShardedKeys"
"""Keys wherever they are; `fastclip.ops` says what each means."""

Queries: TypeAlias = "Array | Rows"
"""In memory; in files where keys are."""


_DEFAULTS = {"return_survivors": False, "num_groups": None}
"""Of options that need all keys in memory."""


def elsewhere(keys: Any, allowed: Any = None, exclude: Any = None) -> bool:
    """Whether ``keys`` are rows in files, or spread over ranks, or some of them do not count."""
    filtered = allowed is not None or exclude is not None
    return filtered or isinstance(keys, (Rows, ShardedKeys))


def answer(kind: type[Operation], queries: Any, keys: Any, **given: Any) -> Any:
    """Return the answer of an operation about keys that are `elsewhere`.

    Options that need all keys to count, and to be in memory, must have their defaults; otherwise
    they are refused.

    Raises
    ------
    FeatureFileError, RankError, TypeError, ValueError
    """
    options = {name: given.pop(name, default) for name, default in _DEFAULTS.items()}
    in_memory = not isinstance(keys, (Rows, ShardedKeys))

    def check() -> None:
        for name, option in options.items():
            if option is not _DEFAULTS[name]:
                if in_memory:
                    raise ValueError(f"{name}: is allowed only without allowed= and exclude=")
                raise ValueError(f"{name}: is allowed only with keys in memory, got {keys!r}")

    if isinstance(keys, ShardedKeys):
        return rounds.ask(kind, queries, keys, given, check)
    check()
    return (_filtered if in_memory else _streamed)(kind, queries, keys, given)


def _filtered(
    kind: type[Operation],
    queries: Array | PackedKeys,
    keys: Array | PackedKeys,
    given: dict[str, Any],
) -> Any:
    """Return the answer about keys in memory of which some do not count."""
    check_no_batch(queries, keys, *given.values())
    query_rows = queries.rows if isinstance(queries, PackedKeys) else as_rows("queries", queries)
    key_rows, screen = as_keys(keys)
    check_same_width(query_rows, key_rows)
    check_some_rows("keys", key_rows)
    (count, width), of_keys = query_rows.shape, len(key_rows)
    one_set = kind.of_one_set and queries is keys
    sides = Sides(count, of_keys, of_keys, width, query_rows.device, one_set=one_set)
    operation = kind(sides, **given)
    here = torch.get_default_device() == query_rows.device  # then it takes no time to say so
    with nullcontext() if here else query_rows.device:
        try:
            state = _state(operation, query_rows, keys if screen else key_rows)
        except ValueError:
            # The keys that were searched may be numbered otherwise.
            check_finite("queries", query_rows)
            if not screen:
                check_finite("keys", key_rows)
            raise
        return operation.finish(state, query_rows if operation.row == "query" else key_rows)


def _state(operation: Operation, queries: torch.Tensor, keys: torch.Tensor | PackedKeys) -> State:
    """Return what is known after all keys, in as many blocks of queries as their lists need."""
    blocks = blocks_of(operation)
    if len(blocks) > 1 and isinstance(keys, torch.Tensor) and not keys.requires_grad:
        keys = pack(keys, copy=False) if worth_packing(queries, keys) else keys
    of_keys = Part(keys, 0, operation.columns("key", 0, len(keys)))
    found: list[State] = []
    for rows in blocks:
        columns = operation.columns("query", rows.start, rows.stop)
        part = Part(queries[rows.start : rows.stop], rows.start, columns)
        if operation.has_targets:
            columns["target_scores"] = pair_scores(part.tensor, of_keys.tensor, columns["targets"])
        if operation.row == "query":
            found.append(operation.add(operation.start(len(part)), part, of_keys))
        else:
            state = found.pop() if found else operation.start(len(keys))
            found.append(operation.add(state, of_keys, part))
    return found[0] if len(found) == 1 else operation.join(found)


def ask_rows(
    kind: type[Operation], queries: Any, keys: Any, device: torch.device, **given: Any
) -> Question:
    """Return a question about rows; ``keys`` None stands for the queries.

    Raises
    ------
    TypeError, ValueError
        As of the function.
    """
    others = queries if keys is None else keys
    check_width(queries.dim, others.dim)
    sides = Sides(len(queries), len(others), len(others), queries.dim, device, one_set=keys is None)
    return Question(kind(sides, **given), queries, others)


def _streamed(
    kind: type[Operation], queries: Array | Rows, keys: Rows, given: dict[str, Any]
) -> Any:
    rows = as_source("queries", queries)
    device = rows.rows.device if isinstance(rows, MemoryRows) else torch.device("cpu")
    one_set = kind.of_one_set and queries is keys
    question = ask_rows(kind, rows, None if one_set else keys, device, **given)
    operation = question.operation
    if device.type != "cpu" and not operation.exact:
        raise ValueError(
            f"queries: are on device '{device}', 'cpu' is needed for {kind.name} of keys in files"
        )
    try:
        plan = make_plan(question, TUNING.stream_bytes, None, device)
    except ValueError as error:
        raise ValueError(
            f"keys: this question needs more memory than keys in files get here ({error}); "
            f"fastclip.sweep.run takes memory="
        ) from error
    count, size = len(question.block), max(1, plan.block)
    ranges = [range(i, min(i + size, count)) for i in range(0, max(1, count), size)]
    with device:
        found = [
            operation.to_fields(operation.finish(state, block))
            for _, state, block in states(question, plan, list(enumerate(ranges)))
        ]
        return kind.from_fields(concatenated(found), (count, len(question.others)))
