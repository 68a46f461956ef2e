"""What each operation needs when queries and keys come from files, and what it hands out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch

from fastclip import _C
from fastclip.data.rows import Rows
from fastclip.engine.checks import Array, as_integer, as_number
from fastclip.engine.scalars import as_threshold
from fastclip.ops._count import room as room_for_counts
from fastclip.ops._groups import check_count, check_sizes
from fastclip.ops._merge import (
    BestKeys,
    BestOfGroups,
    CountPerKey,
    GroupsAhead,
    KeysAhead,
    PairsAbove,
    Reducer,
)
from fastclip.ops._merge_sums import GroupMeans, ScaledSums, WeightedValues
from fastclip.ops.group_max import GroupMax
from fastclip.ops.group_max import room as room_for_group_max
from fastclip.ops.similarity import similarity
from fastclip.ops.topk import TopK
from fastclip.ops.topk import room as room_for_topk

from ._columns import Integers, Thresholds, described_number
from ._inputs import check_finite

Fields = dict[str, torch.Tensor]
"""Columns of a result, [n] or [n, m] each; or row starts, columns and scores of a CSR matrix."""


class Question(ABC):
    """An operation with its arguments.

    ``block`` is the side whose rows have results and make shards, ``others`` the side that is
    streamed past each block.
    """

    fields: ClassVar[tuple[str, ...]]
    exact: ClassVar[bool] = True
    row: ClassVar[Literal["query", "key"]] = "query"
    once: ClassVar[bool] = False
    """Whether ``others`` say the same about every block, and need to be streamed only once."""

    def __init__(self, block: Rows, others: Rows) -> None:
        self.block, self.others = block, others
        self.described: dict[str, object] = {}
        """Arguments as the description of the sweep has them: JSON values, hashes of arrays."""

    @property
    @abstractmethod
    def row_bytes(self) -> int:
        """Memory of a row's state and result, with the copies that merging and writing make."""

    @property
    def other_bytes(self) -> int:
        """Memory of what the operation needs for each row of ``others``."""
        return 0

    @property
    def device_bytes(self) -> int:
        """Memory that the operation works in on a CUDA device, at most."""
        most = max(len(self.block), len(self.others))
        return room_for_counts(*self._on_meta(most, most))

    def _on_meta(self, rows: int, others: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return so many rows of both, without memory."""
        block, other = (torch.empty(n, self.block.dim, device="meta") for n in (rows, others))
        return block, other

    def read(self, begin: int, end: int) -> torch.Tensor | None:
        """Read what `reducer` needs of files for these rows of the block; in the reading thread."""
        return None

    def of_chunk(self, begin: int, end: int) -> torch.Tensor | None:
        """Return what the reducer needs for these rows of ``others``."""
        return None

    def first_other(self, begin: int) -> int:
        """Return the first row of ``others`` that matters to rows of the block from ``begin``."""
        return 0

    @abstractmethod
    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        """Return the reducer of the block that begins with row ``begin``, on its device."""

    def result(self, block: torch.Tensor, answer: Any) -> Fields:
        """Return the columns of the result of a block."""
        columns = answer if isinstance(answer, tuple) else (answer,)
        return dict(zip(self.fields, columns, strict=True))


class _TopK(Question):
    fields = ("indices", "values")

    def __init__(self, block: Rows, others: Rows, k: int) -> None:
        super().__init__(block, others)
        self.k = as_integer("k", k)
        if not 1 <= self.k <= len(others):
            raise ValueError(f"k: must be from 1 to the number of keys {len(others)}, got {k}")
        self.described["k"] = self.k

    @property
    def row_bytes(self) -> int:
        return 128 * self.k  # two lists of 12 bytes, joined, sorted and cut

    @property
    def device_bytes(self) -> int:
        return room_for_topk(*self._on_meta(len(self.block), len(self.others)), self.k)

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        return BestKeys(self.k)

    def result(self, block: torch.Tensor, answer: Any) -> Fields:
        return {"indices": answer.indices, "values": answer.values}


class _OfTargets(Question):
    """A question about a target key of each query."""

    def __init__(self, block: Rows, others: Rows, targets: Array) -> None:
        Question.__init__(self, block, others)
        self._targets = Integers("targets", targets, len(block))
        self._targets.check_range(len(others), "keys")
        self.described["targets_sha256"] = self._targets.digest()

    def read(self, begin: int, end: int) -> torch.Tensor | None:
        return self.others.take(self._targets[begin:end])

    def _scores(
        self, begin: int, block: torch.Tensor, read: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own = torch.arange(len(block), device=block.device)
        scores = torch.ops.fastclip.pair_scores(block, read, own)
        return scores, self._targets[begin : begin + len(block)].to(block.device)


class _Rank(_OfTargets):
    fields = ("rank",)

    @property
    def row_bytes(self) -> int:
        return 64 + 3 * self.others.row_bytes

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        return KeysAhead(*self._scores(begin, block, read))


class _CountPerQuery(Question):
    fields = ("count",)

    def __init__(self, block: Rows, others: Rows, thresholds: Array | float) -> None:
        super().__init__(block, others)
        self._thresholds = Thresholds(thresholds, len(block))
        self.described |= self._thresholds.described()

    @property
    def row_bytes(self) -> int:
        return 64

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        thresholds = self._thresholds[begin : begin + len(block)].to(block.device)
        return KeysAhead(thresholds, torch.zeros_like(thresholds, dtype=torch.int64))


class _CountPerKey(Question):
    fields = ("count",)
    row = "key"

    def __init__(self, block: Rows, others: Rows, thresholds: Array | float) -> None:
        super().__init__(block, others)
        self._thresholds = Thresholds(thresholds, len(others))
        self.described |= self._thresholds.described()

    @property
    def row_bytes(self) -> int:
        return 64 + _C.code_width(self.block.dim) + 12  # keys of a block are packed on the way

    def of_chunk(self, begin: int, end: int) -> torch.Tensor | None:
        return self._thresholds[begin:end]

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        return CountPerKey()


class _PairsAbove(Question):
    fields = ("indices", "values")

    def __init__(self, block: Rows, others: Rows, threshold: float, once: bool) -> None:
        super().__init__(block, others)
        self._threshold = as_threshold("threshold", threshold)
        self._once = once
        self.described["threshold"] = described_number(self._threshold)

    @property
    def row_bytes(self) -> int:
        return 64  # and what the pairs take, which nobody knows before

    @property
    def device_bytes(self) -> int:
        return super().device_bytes + (24 << 20)  # scores of pairs that the screen leaves open

    def first_other(self, begin: int) -> int:
        return begin if self._once else 0

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        return PairsAbove(self._threshold, begin if self._once else None)

    def result(self, block: torch.Tensor, answer: Any) -> Fields:
        starts, columns, scores = answer
        return {"starts": starts, "indices": columns, "values": scores}


class _Grouped(Question):
    """A question about groups of keys."""

    def __init__(self, block: Rows, others: Rows, groups: Array) -> None:
        Question.__init__(self, block, others)
        self._take_groups(groups)

    def _take_groups(self, groups: Array) -> None:
        count = len(self.others)
        if not count:
            raise ValueError("keys: at least one row is needed, got none")
        self._groups = Integers("groups", groups, count)
        self.num_groups = 1 + max(int(part.max()) for part in self._groups.blocks())
        check_count("groups", self.num_groups, count)
        self._groups.check_range(self.num_groups, "groups")
        sizes = torch.zeros(self.num_groups, dtype=torch.int64, device="cpu")
        for part in self._groups.blocks():
            sizes += torch.bincount(part, minlength=self.num_groups)
        check_sizes(sizes)
        self.described["groups_sha256"] = self._groups.digest()

    @property
    def other_bytes(self) -> int:
        return 24

    def of_chunk(self, begin: int, end: int) -> torch.Tensor | None:
        return self._groups[begin:end]


class _GroupMax(_Grouped):
    fields = ("indices", "values")

    @property
    def row_bytes(self) -> int:
        return 64 * self.num_groups

    @property
    def device_bytes(self) -> int:
        rows = self._on_meta(len(self.block), len(self.others))
        return room_for_group_max(*rows, self.num_groups)

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        return BestOfGroups(self.num_groups)

    def result(self, block: torch.Tensor, answer: Any) -> Fields:
        return {"indices": answer.indices, "values": answer.values}


class _GroupBeats(_Grouped, _OfTargets):
    fields = ("bits",)

    def __init__(self, block: Rows, others: Rows, groups: Array, targets: Array) -> None:
        _OfTargets.__init__(self, block, others, targets)
        self._take_groups(groups)

    @property
    def row_bytes(self) -> int:
        return self.num_groups // 2 + 128 + 3 * self.others.row_bytes

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        return GroupsAhead(*self._scores(begin, block, read), self.num_groups)


class _GroupMean(_Grouped):
    fields = ("mean",)
    exact = False
    once = True
    _means: torch.Tensor | None = None

    @property
    def row_bytes(self) -> int:
        return 16 * self.num_groups

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        return GroupMeans(self.num_groups, self.others.dim)

    def result(self, block: torch.Tensor, answer: Any) -> Fields:
        if self._means is None:
            self._means = answer
        return {"mean": similarity(block, self._means)}


class _LogSumExp(Question):
    fields = ("logsumexp",)
    exact = False

    def __init__(self, block: Rows, others: Rows, scale: float) -> None:
        super().__init__(block, others)
        self._scale = self.described["scale"] = as_number("scale", scale)
        if not len(others):
            raise ValueError("keys: at least one row is needed, got none")

    @property
    def row_bytes(self) -> int:
        return 12 * 64 + 64  # of at most 64 parts

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        return ScaledSums(self._scale, len(self.others), self.others.dim)


class _CacheLogits(Question):
    fields = ("logits",)
    exact = False

    def __init__(self, block: Rows, others: Rows, values: Rows, beta: float) -> None:
        super().__init__(block, others)
        self._values = values
        self._beta = self.described["beta"] = as_number("beta", beta)
        if len(values) != len(others):
            raise ValueError(
                f"values: one row per key is needed, got {len(values)} rows and {len(others)} keys"
            )

    @property
    def row_bytes(self) -> int:
        return 24 * self._values.dim

    @property
    def other_bytes(self) -> int:
        return self._values.row_bytes

    def of_chunk(self, begin: int, end: int) -> torch.Tensor | None:
        rows = torch.empty(end - begin, self._values.dim, dtype=self._values.dtype)
        self._values.read(begin, rows)
        check_finite(self._values, rows, begin)
        return rows

    def reducer(self, begin: int, block: torch.Tensor, read: torch.Tensor | None) -> Reducer:
        return WeightedValues(self._beta, self._values.dim, len(self.others))


QUESTIONS: dict[str, type[Question]] = {
    "topk": _TopK,
    "rank": _Rank,
    "count_above": _CountPerQuery,
    "pairs_above": _PairsAbove,
    "group_max": _GroupMax,
    "group_beats": _GroupBeats,
    "group_mean": _GroupMean,
    "logsumexp": _LogSumExp,
    "cache_logits": _CacheLogits,
}

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "topk": ("k",),
    "rank": ("targets",),
    "count_above": ("thresholds", "per"),
    "pairs_above": ("threshold",),
    "group_max": ("groups",),
    "group_beats": ("groups", "targets"),
    "group_mean": ("groups",),
    "logsumexp": ("scale",),
    "cache_logits": ("values", "beta"),
}
"""What each operation takes beside queries and keys."""

ANSWERS: dict[str, Callable[..., Any]] = {"topk": TopK, "group_max": GroupMax}
"""What functions return that return more than one tensor."""


def make_question(op: str, queries: Rows, keys: Rows | None, arguments: dict[str, Any]) -> Question:
    """Return the question that an operation asks; ``keys`` None stands for the queries."""
    if op not in QUESTIONS:
        raise ValueError(f"op: must be one of {', '.join(QUESTIONS)}, got {op!r}")
    needed = set(ARGUMENTS[op]) - {"per"}
    if not needed <= arguments.keys() <= set(ARGUMENTS[op]):
        raise ValueError(
            f"arguments of {op}: {', '.join(ARGUMENTS[op])} are needed, "
            f"got {', '.join(sorted(arguments)) or 'none'}"
        )
    arguments = dict(arguments)
    kind = QUESTIONS[op]
    if op == "pairs_above":
        arguments["once"] = keys is None
    elif keys is None:
        raise ValueError(f"keys: needed for {op}; only pairs_above compares queries to themselves")
    others = queries if keys is None else keys
    if queries.dim != others.dim:
        raise ValueError(
            f"keys: rows must be as long as those of queries, got {others.dim} and {queries.dim}"
        )
    per = arguments.pop("per", "key")
    if op == "count_above":
        if per not in ("key", "query"):
            raise ValueError(f"per: must be 'key' or 'query', got {per!r}")
        if per == "key":
            kind, queries, others = _CountPerKey, others, queries
    return kind(queries, others, **arguments)
