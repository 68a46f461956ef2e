"""What operations are asked beside queries and keys: kinds of arguments, each checked in one place.

An operation lists its arguments. From the list follow what a call must give, how that is checked
where keys are not one array in memory, what a job writes down of it, and the options of the command
line. Functions of keys in memory call the same checks (checks.py, groups.py, scalars.py).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from fastclip.engine.checks import as_integer, as_number, as_threshold, check_k
from fastclip.engine.columns import Column, Integers, Thresholds, described_number
from fastclip.engine.groups import check_count, check_sizes
from fastclip.engine.sources import MemoryRows, RowSource, as_source, read_finite

Side = Literal["query", "key"]


@dataclass(frozen=True)
class Sides:
    """What is known of queries and keys when arguments are checked."""

    queries: int
    """Those of this process."""
    keys: int
    """All of them."""
    own_keys: int
    """Those of this process."""
    width: int
    device: torch.device
    spread: bool = False
    """Whether other processes have keys, too."""
    one_set: bool = False
    """Whether queries and keys are the same rows, of which each pair is to be met once."""


class Argument:
    """One argument; a value is checked by `check`."""

    name: ClassVar[str]
    per: ClassVar[Side | None] = None
    """Whether each query or key has a number of its own: then `check` returns a `Column`."""
    default: ClassVar[Any] = None
    """What stands for an argument that is left out; None if it must be given, or is not needed."""
    needed: ClassVar[bool] = True
    """Whether it must be given where it has no default. Otherwise None is a checked value, too."""
    metavar: ClassVar[str | None] = None
    type: ClassVar[type] = str
    """On the command line."""

    def check(self, value: Any, sides: Sides) -> Any:
        """Return ``value`` as the operation uses it.

        Raises
        ------
        TypeError, ValueError
            As of the function of keys in memory.
        """
        raise NotImplementedError

    def described(self, value: Any) -> dict[str, object]:
        """Return what a job writes down of a checked value: JSON values, hashes of arrays."""
        if value is None:
            return {}
        return value.described() if self.per else {self.name: value}

    def shared(self, value: Any) -> dict[str, object]:
        """Return what must be the same on all ranks."""
        return {} if self.per else {self.name: value}


class K(Argument):
    """How many keys per query."""

    name = "k"
    type = int

    def check(self, value: Any, sides: Sides) -> int:
        k = as_integer("k", value)
        check_k(k, sides.keys)
        return k


class _Number(Argument):
    type = float

    def check(self, value: Any, sides: Sides) -> float:
        return as_number(self.name, value)


class Scale(_Number):
    """The factor of the scores, an inverse temperature."""

    name = "scale"


class Beta(_Number):
    """The sharpness."""

    name = "beta"


class Threshold(Argument):
    """One number that scores must be above."""

    name = "threshold"
    type = float

    def check(self, value: Any, sides: Sides) -> float:
        return as_threshold("threshold", value)

    def described(self, value: float) -> dict[str, object]:
        return {"threshold": described_number(value)}


class ThresholdPerQuery(Argument):
    """One number that scores must be above, or one per query."""

    name = "thresholds"
    per = "query"
    metavar = "NUMBER|FILE.npy"

    def check(self, value: Any, sides: Sides) -> Column:
        return Thresholds(value, sides.queries, sides.device)


class Per(Argument):
    """What is counted for: key (default) or query."""

    name = "per"
    default = "key"

    def check(self, value: Any, sides: Sides) -> Side:
        return as_side(value)

    def described(self, value: Side) -> dict[str, object]:
        return {}  # the rows that have answers say it


def as_side(per: Any) -> Side:
    """Return the argument ``per``."""
    if per == "key":
        return "key"
    if per == "query":
        return "query"
    raise ValueError(f"per: must be 'key' or 'query', got {per!r}")


class Targets(Argument):
    """A key per query."""

    name = "targets"
    per = "query"
    metavar = "FILE.npy"

    def check(self, value: Any, sides: Sides) -> Column:
        column = Integers("targets", value, sides.queries, sides.device)
        column.check_range(sides.keys, "keys")
        return column


class GroupColumn(Integers):
    """The group of each key of this process."""

    def __init__(self, value: Any, count: int, device: torch.device) -> None:
        super().__init__("groups", value, count, device)
        self._device = device
        self.num_groups = max((1 + int(part.max()) for part in self.blocks()), default=0)
        """Those that these keys know of; all ranks agree on the largest."""

    def sizes(self) -> torch.Tensor:
        """Return how many of the keys each group has."""
        sizes = torch.zeros(self.num_groups, dtype=torch.int64, device=self._device)
        for part in self.blocks():
            sizes += torch.bincount(part, minlength=self.num_groups)
        return sizes


class Groups(Argument):
    """The group of each key."""

    name = "groups"
    per = "key"
    metavar = "FILE.npy"

    def check(self, value: Any, sides: Sides) -> GroupColumn:
        if not sides.keys:
            raise ValueError("keys: at least one row is needed, got none")
        column = GroupColumn(value, sides.own_keys, sides.device)
        if sides.spread:
            column.check_range(sides.keys, "groups")
            return column
        check_count("groups", column.num_groups, sides.keys)
        column.check_range(column.num_groups, "groups")
        check_sizes(column.sizes())
        return column


class RowColumn:
    """A row of numbers for each key."""

    def __init__(self, name: str, rows: RowSource) -> None:
        self.width, self.row_bytes = rows.dim, rows.row_bytes
        self._name, self._rows = name, rows

    def __getitem__(self, rows: slice) -> torch.Tensor:
        begin, end, _ = rows.indices(len(self._rows))
        return read_finite(self._rows, begin, end)

    def described(self) -> dict[str, object]:
        return {}  # its files are hashed as those of queries and keys are


class ValueRows(Argument):
    """A row of values per key."""

    name = "values"
    per = "key"
    metavar = "SOURCE"

    def check(self, value: Any, sides: Sides) -> RowColumn:
        rows = as_source("values", value)
        if isinstance(rows, MemoryRows) and rows.rows.device != sides.device:
            raise ValueError(
                f"values: are on device '{rows.rows.device}', but queries on '{sides.device}': all "
                f"must be on one device"
            )
        if len(rows) != sides.own_keys:
            raise ValueError(
                f"values: one row per key is needed, got {len(rows)} rows and {sides.own_keys} keys"
            )
        return RowColumn("values", rows)

    def shared(self, value: RowColumn) -> dict[str, object]:
        return {"columns of values": value.width}
