"""Blocks of rows, and the other side's chunks that pass each of them, within a bound of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from fastclip import _C
from fastclip.engine.buffers import Buffers, beside, side_stream, wait
from fastclip.engine.operation import Operation, Part, State
from fastclip.engine.packed import PackedKeys
from fastclip.engine.packing import pack
from fastclip.engine.pair_scores import pair_scores
from fastclip.engine.sources import RowSource, check_rows
from fastclip.engine.tuning import TUNING


@dataclass(frozen=True)
class Question:
    """An operation, and the rows that it is about."""

    operation: Operation
    queries: RowSource
    keys: RowSource

    @property
    def block(self) -> RowSource:
        """The side whose rows have answers."""
        return self.queries if self.operation.row == "query" else self.keys

    @property
    def others(self) -> RowSource:
        """The side that is streamed past each block."""
        return self.keys if self.operation.row == "query" else self.queries

    @property
    def row_bytes(self) -> int:
        """Memory of a row of the block, beside the row itself."""
        operation = self.operation
        # Rows of targets are read, put in order and moved.
        columns = operation.column_bytes(operation.row)
        return operation.row_bytes + columns + 3 * self.others.row_bytes * operation.has_targets

    @property
    def other_bytes(self) -> int:
        """Memory of what the operation needs for each row of the other side."""
        operation = self.operation
        return operation.column_bytes(operation.passing)


@dataclass(frozen=True)
class Plan:
    """How many rows of the block and of the other side are in memory at a time, and where."""

    block: int
    chunk: int
    resident: bool
    """Whether the chunk is all of the other side, which is then read and packed only once."""
    device: torch.device


def make_plan(
    question: Question, memory: int, shard_size: int | None, device: torch.device
) -> Plan:
    """Divide ``memory`` bytes: half of what is free for chunks, at most, the rest for the block.

    They are for two buffers of blocks, two of chunks, and what is computed, all on the device. The
    host of another device needs less: rows on their way there, and results.

    Raises
    ------
    ValueError
        ``memory`` is too little for these rows, or for a shard.
    """
    block, others = question.block, question.others
    width = max(1, block.dim)
    # Pieces that are read or written, float64 copies of 512 rows, the operations' own workspace.
    fixed = (32 << 20) + 512 * width * 24
    if device.type == "cpu":
        fixed += torch.get_num_threads() * (24 * 512 * width + (18 << 20))
    else:
        sides = question.queries, question.keys
        queries, keys = (torch.empty(len(rows), rows.dim, device="meta") for rows in sides)
        # The latter is a sample of keys to pack.
        fixed += question.operation.workspace(queries, keys) + _C.center_sample * width * 12
    per_row = 2 * block.row_bytes + question.row_bytes
    codes = _C.code_width(width) + 12
    per_resident = others.row_bytes + question.other_bytes + codes
    per_other = per_resident + others.row_bytes + question.other_bytes
    align = question.operation.alignment() if len(others) else 1
    least = min(max(1, len(others)), max(TUNING.least_chunk_rows, align)) * per_other
    spare = memory - fixed
    rows = len(block) if shard_size is None else min(shard_size, len(block))
    for_chunks = spare // 2 if shard_size is None else spare - rows * per_row
    if for_chunks < least or spare - least < per_row:
        needed = fixed + (max(2 * least, least + per_row) if shard_size is None else least)
        needed += 0 if shard_size is None else rows * per_row
        of = "" if shard_size is None else f" and shards of {rows:,} rows"
        raise ValueError(
            f"memory: at least {needed:,} bytes are needed for rows of {width} numbers{of}, "
            f"got {memory:,}"
        )
    resident = len(others) * per_resident <= for_chunks
    chunk = len(others)
    if not resident:
        chunk = min(TUNING.most_chunk_rows, for_chunks // per_other)
        chunk = max(chunk // align, 1) * align
    if shard_size is None:
        used = chunk * (per_resident if resident else per_other)
        rows = min(rows, (spare - used) // per_row)
    return Plan(rows, max(1, chunk), resident, device)


@dataclass(frozen=True)
class _Step:
    """A chunk to read, and before it a block if it is the ``first`` that passes one."""

    number: int
    rows: range
    turn: int
    """Blocks before this one."""
    begin: int
    end: int
    first: bool
    last: bool


def states(
    question: Question,
    plan: Plan,
    blocks: Sequence[tuple[int, range]],
    reader: Reader | None = None,
) -> Iterator[tuple[int, State, torch.Tensor]]:
    """Yield the number, the state and the rows of each block, reading ahead in a thread.

    The plan's device must be the default one. State and rows are good until the next ones.
    ``reader`` is given where one is used again, for what it keeps in memory.

    Raises
    ------
    FeatureFileError
        A file cannot be read, or a row holds a NaN or an infinity.
    """
    operation = question.operation
    steps = enumerate(_steps(question, plan, blocks))
    reader = reader or Reader(question, plan)
    state: State = ()
    with ThreadPoolExecutor(1, thread_name_prefix="fastclip-read") as pool:
        step = next(steps, None)
        ahead = pool.submit(reader.read, *step) if step else None
        block = Part(torch.empty(0))
        while step is not None and ahead is not None:
            current = step[1]
            new_block, chunk = ahead.result()
            step = next(steps, None)
            ahead = pool.submit(reader.read, *step) if step else None
            if new_block is not None:
                block = _with_target_scores(new_block, plan.device)
                if not (operation.once and current.turn):
                    state = operation.start(len(block))
            try:
                state = operation.add(state, block, chunk)
            except ValueError as error:
                check_rows(question.others, chunk.tensor, current.begin, error)
                raise
            wait(plan.device)  # the chunk after the next is read into the buffer of this one
            del chunk
            if current.last:
                yield current.number, state, block.tensor


def _with_target_scores(block: Part, device: torch.device) -> Part:
    """Return the block with the scores of its targets in place of their rows."""
    columns = {name: column.to(device) for name, column in block.columns.items()}
    rows = columns.pop("target_rows", None)
    if rows is not None:
        own = torch.arange(len(block), device=device)
        columns["target_scores"] = pair_scores(block.tensor, rows, own)
    return Part(block.rows, block.begin, columns)


def _steps(question: Question, plan: Plan, blocks: Sequence[tuple[int, range]]) -> Iterator[_Step]:
    for turn, (number, rows) in enumerate(blocks):
        operation = question.operation
        count = 0 if operation.once and turn else len(question.others)
        # Where both sides are one set, rows before the block have met it.
        first = rows.start if operation.sides.one_set and not plan.resident else 0
        starts = range(first, count, plan.chunk) or range(1)
        for begin in starts:
            end = min(begin + plan.chunk, count)
            ends = begin == starts[0], begin == starts[-1]
            yield _Step(number, rows, turn, begin, end, *ends)


class Reader:
    """Reads blocks and chunks into two buffers each, in turn, so that one can be used meanwhile.

    These are on the plan's device, as columns of chunks are; those of blocks are on the CPU.
    """

    def __init__(self, question: Question, plan: Plan) -> None:
        self._question, self._plan = question, plan
        self._blocks = Buffers(question.block, plan.block, plan.device)
        self._chunks = Buffers(question.others, plan.chunk, plan.device)
        self._resident: Part | None = None
        self._stream = side_stream(plan.device)

    def read(self, place: int, step: _Step) -> tuple[Part | None, Part]:
        """Return the block, if it is a new one, and the chunk."""
        with beside(self._stream):
            return self._block(step) if step.first else None, self._chunk(place, step)

    def _block(self, step: _Step) -> Part:
        question, begin, end = self._question, step.rows.start, step.rows.stop
        rows = self._blocks.fill(step.turn, begin, end - begin)
        check_rows(question.block, rows, begin)
        columns = question.operation.columns(question.operation.row, begin, end)
        if question.operation.has_targets:
            columns["target_rows"] = question.others.take(columns["targets"].cpu())
        return Part(rows, begin, columns)

    def _chunk(self, place: int, step: _Step) -> Part:
        begin, end = step.begin, step.end
        if self._resident is not None and end > begin:
            return self._resident
        rows = self._chunks.fill(place, begin, end - begin)
        if not self._plan.resident or begin == end:
            return self._part(rows, begin, end)
        check_rows(self._question.others, rows, 0)
        return self.keep(pack(rows, copy=False))

    def keep(self, others: PackedKeys) -> Part:
        """Keep all of the other side, packed: it is not read again."""
        self._resident = self._part(others, 0, len(others))
        return self._resident

    def _part(self, rows: torch.Tensor | PackedKeys, begin: int, end: int) -> Part:
        operation = self._question.operation
        columns = operation.columns(operation.passing, begin, end)
        device = self._plan.device
        return Part(rows, begin, {name: numbers.to(device) for name, numbers in columns.items()})
