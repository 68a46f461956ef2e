"""An operation: one question about queries and keys, which is answered wherever the keys are.

What an operation must say, and who asks it::

    arguments                    what it is asked beside queries and keys (arguments.py)
    state = op.start(rows)       what is known about so many queries before the first key
    state = op.add(state, block, chunk)      with the keys of a chunk, too
    state = op.merge(state, state_of_other_keys)
    answer = op.finish(state, queries)       what the function returns

    keys in files (stream.py)    chunks of keys pass blocks of queries: start, add, add, ..., finish
    keys on ranks (rounds.py)    each rank adds its own keys for the queries of all, the states
                                 travel to whom the queries belong and are merged there

Indices are those of all keys. The answer has the bits of the function on all keys at once, for
chunks of any size in any order, with any merges on the way, where ``exact`` is True. Where it is
not, sums of float32 and float64 numbers depend on where and in which order they are made: the
answer has the same bits if chunks begin at multiples of ``alignment``, and come in the order of
their keys.

A state is a tuple of tensors with no other reference to the chunks; the functions in memory, with
their kernels and gradients, need none of this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import torch

from fastclip.engine.arguments import Argument, Side, Sides, Targets
from fastclip.engine.packed import PackedKeys

State: TypeAlias = tuple[torch.Tensor, ...]

Fields: TypeAlias = dict[str, torch.Tensor]
"""Columns of a result, [n] or [n, m] each; or row starts, columns and scores of a CSR matrix."""

LAST = torch.iinfo(torch.int64).max  # stands for no key: after all others


@dataclass(frozen=True)
class Part:
    """Rows that follow each other, or some of these: queries of a block, or keys of a chunk."""

    rows: torch.Tensor | PackedKeys
    begin: int = 0
    """Number of the first one among all."""
    columns: dict[str, torch.Tensor] = field(default_factory=dict)
    """Arguments with a number for each of the rows; where one of them is targets, the scores of
    these, too: ``target_scores``."""
    numbers: torch.Tensor | None = None
    """Of each row among all, increasing, where they do not follow each other."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tensor(self) -> torch.Tensor:
        """The rows themselves."""
        return self.rows.rows if isinstance(self.rows, PackedKeys) else self.rows

    def number(self, places: torch.Tensor) -> torch.Tensor:
        """Return the numbers among all of some rows of this part."""
        return places + self.begin if self.numbers is None else self.numbers[places]

    def place(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return where rows with these numbers are in this part, or would be if they were."""
        if self.numbers is None:
            return numbers - self.begin
        return torch.searchsorted(self.numbers, numbers.contiguous())

    def at(self, places: torch.Tensor) -> Part:
        """Return the rows at increasing places; all of them are not copied."""
        if len(places) == len(self):
            return self
        columns = {name: column[places] for name, column in self.columns.items()}
        return Part(self.tensor[places], 0, columns, self.number(places))

    def allowed(self) -> Part:
        """Return the rows of which the column ``allowed`` is true; all if there is none."""
        columns = dict(self.columns)
        mask = columns.pop("allowed", None)
        every = Part(self.rows, self.begin, columns, self.numbers)
        return every if mask is None else every.at(mask.nonzero()[:, 0])


class Operation(ABC):
    """One question, with its arguments checked; see the module.

    The checked arguments are attributes of the same names. Those with a number per query or key
    reach `add` as columns of the block and of the chunk.
    """

    name: ClassVar[str]
    arguments: ClassVar[tuple[Argument, ...]]
    fields: ClassVar[tuple[str, ...]]
    """Names of the columns that a table of answers has."""
    result: ClassVar[type[tuple[Any, ...]] | None] = None
    """The named tuple that the function returns; None where that is one tensor."""
    exact: ClassVar[bool] = True
    """Whether chunks may be cut anywhere, come in any order and be merged in any way."""
    once: ClassVar[bool] = False
    """Whether keys say the same about all queries: the state has a row for each answer's column,
    and is made once."""
    sparse: ClassVar[bool] = False
    """Whether the answer is a CSR matrix: its table has a list of each field per row."""
    of_one_set: ClassVar[bool] = False
    """Whether queries may be compared to themselves, each pair once."""
    row: Side = "query"
    """What has an answer: the rows of a block."""

    def __init__(self, sides: Sides, **given: Any) -> None:
        """Check the arguments.

        Raises
        ------
        TypeError, ValueError
            As of the function.
        """
        needed = {a.name for a in self.arguments if a.needed and a.default is None}
        if not needed <= given.keys() <= set(self.argument_names()):
            optional = sorted(set(self.argument_names()) - needed)
            raise ValueError(
                f"arguments of {self.name}: needed: {', '.join(sorted(needed))}"
                f"{', optional: ' if optional else ''}{', '.join(optional)}, "
                f"got {', '.join(sorted(given)) or 'none'}"
            )
        self.sides = sides
        for argument in self.arguments:
            value = given.get(argument.name, argument.default)
            setattr(self, argument.name, argument.check(value, sides))

    @classmethod
    def argument_names(cls) -> tuple[str, ...]:
        """Return the names of the arguments beside queries and keys."""
        return tuple(argument.name for argument in cls.arguments)

    def described(self) -> dict[str, object]:
        """Return what a job writes down of the arguments: JSON values, hashes of arrays."""
        found: dict[str, object] = {}
        for argument in self.arguments:
            found |= argument.described(getattr(self, argument.name))
        return found

    def shared(self) -> dict[str, object]:
        """Return what must be the same on all ranks."""
        found: dict[str, object] = {}
        for argument in self.arguments:
            found |= argument.shared(getattr(self, argument.name))
        return found

    @property
    def passing(self) -> Side:
        """The other side, which passes the blocks in chunks."""
        return "key" if self.row == "query" else "query"

    @property
    def has_targets(self) -> bool:
        """Whether `add` needs the scores of the targets of a block: its ``target_scores``."""
        return any(isinstance(argument, Targets) for argument in self.arguments)

    def columns(self, side: Side, begin: int, end: int) -> dict[str, torch.Tensor]:
        """Return the numbers of these queries or keys in arguments that have some for each."""
        return {
            argument.name: getattr(self, argument.name)[begin:end]
            for argument in self.arguments
            if argument.per == side and getattr(self, argument.name) is not None
        }

    def column_bytes(self, side: Side) -> int:
        """Return the memory that the arguments with numbers for each query or key take for one."""
        columns = [getattr(self, a.name) for a in self.arguments if a.per == side]
        return sum(column.row_bytes for column in columns if column is not None)

    @property
    @abstractmethod
    def row_bytes(self) -> int:
        """Memory of a row's state and answer, with the copies that merging and writing make."""

    def workspace(self, queries: torch.Tensor, keys: torch.Tensor) -> int:
        """Return the bytes that a call works in on a CUDA device, at most; both are on ``meta``."""
        raise NotImplementedError

    def alignment(self) -> int:
        """Return what the first row of each chunk must be a multiple of."""
        return 1

    @abstractmethod
    def start(self, rows: int) -> State:
        """Return what is known about ``rows`` rows of a block before the first chunk."""

    @abstractmethod
    def add(self, state: State, block: Part, chunk: Part) -> State:
        """Return what is known with the chunk, too; ``state`` may be reused."""

    @abstractmethod
    def merge(self, first: State, second: State) -> State:
        """Return what is known about the chunks of both, which have no row in common."""

    def finish(self, state: State, rows: torch.Tensor) -> Any:
        """Return the answer for the ``rows`` of a block."""
        if self.result is not None:
            return self.result(*state)
        (answer,) = state
        return answer

    def split(self, state: State, sizes: Sequence[int]) -> list[State]:
        """Return the parts of a state that are of so many rows each."""
        return list(zip(*(part.split(list(sizes)) for part in state), strict=True))

    def join(self, states: Sequence[State]) -> State:
        """Return the state of the rows of all ``states``."""
        return tuple(torch.cat(parts) for parts in zip(*states, strict=True))

    def over_ranks(self) -> Operation:
        """Return what each rank asks of its keys, where states of all keys cannot be added up."""
        return self

    def to_fields(self, answer: Any) -> Fields:
        """Return the columns of a table of answers."""
        if self.result is not None:
            return {name: getattr(answer, name) for name in self.fields}
        return {self.fields[0]: answer}

    @classmethod
    def from_fields(cls, columns: Fields, shape: tuple[int, int]) -> Any:
        """Return the answer that a table of all rows holds; ``shape`` is [rows, others]."""
        if cls.result is not None:
            return cls.result(**columns)
        return columns[cls.fields[0]]


def concatenated(tables: Sequence[Fields]) -> Fields:
    """Return the table of the rows of all ``tables``."""
    joined = {name: torch.cat([table[name] for table in tables]) for name in tables[0]}
    if "starts" in joined:
        lengths = torch.cat([table["starts"].diff() for table in tables])
        joined["starts"] = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    return joined


OPERATIONS: dict[str, type[Operation]] = {}
"""All operations, by the names of their functions."""


def register(operation: type[Operation]) -> type[Operation]:
    """Add an operation to those that are known to sweeps, ranks and the command line."""
    OPERATIONS[operation.name] = operation
    for name in sorted(OPERATIONS):  # whichever file is imported first
        OPERATIONS[name] = OPERATIONS.pop(name)
    return operation


def operation_named(name: object) -> type[Operation]:
    """Return the operation that the argument ``op`` names."""
    if not isinstance(name, str) or name not in OPERATIONS:
        raise ValueError(f"op: must be one of {', '.join(OPERATIONS)}, got {name!r}")
    return OPERATIONS[name]
