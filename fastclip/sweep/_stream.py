"""Blocks of rows, and the other side's chunks that pass each of them, within a bound of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from fastclip import _C
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.packing import pack
from fastclip.ops._merge import Chunk

from ._buffers import Buffers, beside, side_stream, wait
from ._inputs import check_finite
from ._questions import Fields, Question

_MOST_CHUNK = 1 << 18  # rows; more at a time are no faster
_LEAST_CHUNK = 256


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
        fixed += question.device_bytes + 8192 * width * 12  # the latter a sample of keys to pack
    per_row = 2 * block.row_bytes + question.row_bytes
    codes = _C.code_width(width) + 12
    per_resident = others.row_bytes + question.other_bytes + codes
    per_other = per_resident + others.row_bytes + question.other_bytes
    align = _alignment(question)
    least = min(max(1, len(others)), max(_LEAST_CHUNK, align)) * per_other
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
        chunk = min(_MOST_CHUNK, for_chunks // per_other)
        chunk = max(chunk // align, 1) * align
    if shard_size is None:
        used = chunk * (per_resident if resident else per_other)
        rows = min(rows, (spare - used) // per_row)
    return Plan(rows, max(1, chunk), resident, device)


def _alignment(question: Question) -> int:
    if question.exact or not len(question.others):
        return 1
    return question.reducer(0, torch.empty(0, question.block.dim), None).alignment(
        question.others.dim
    )


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


def answers(
    question: Question,
    plan: Plan,
    blocks: Sequence[tuple[int, range]],
    reader: Reader | None = None,
) -> Iterator[tuple[int, Fields]]:
    """Yield the number and the result of each block, reading ahead in a thread.

    The plan's device must be the default one, the results are on the CPU.
    ``reader`` is given where one is used again, for what it keeps in memory.

    Raises
    ------
    FeatureFileError
        A file cannot be read, or a row holds a NaN or an infinity.
    """
    steps = enumerate(_steps(question, plan, blocks))
    reader = reader or Reader(question, plan)
    with ThreadPoolExecutor(1, thread_name_prefix="fastclip-read") as pool:
        step = next(steps, None)
        ahead = pool.submit(reader.read, *step) if step else None
        block = torch.empty(0)
        while step is not None and ahead is not None:
            current = step[1]
            new_block, read, chunk = ahead.result()
            step = next(steps, None)
            ahead = pool.submit(reader.read, *step) if step else None
            if current.first:
                block = new_block
                read = None if read is None else read.to(plan.device)
                reducer = question.reducer(current.rows.start, block, read)
                state = reducer.start(len(block))
            del read
            try:
                state = reducer.add(state, block, chunk)
            except ValueError as error:
                rows, _ = as_keys(chunk.keys)
                check_finite(question.others, rows, current.begin, error)
                raise
            del chunk
            wait(plan.device)  # the chunk after the next is read into the buffer of this one
            if current.last:
                fields = question.result(block, reducer.finish(state))
                yield current.number, {name: column.cpu() for name, column in fields.items()}


def _steps(question: Question, plan: Plan, blocks: Sequence[tuple[int, range]]) -> Iterator[_Step]:
    for turn, (number, rows) in enumerate(blocks):
        count = 0 if question.once and turn else len(question.others)
        first = 0 if plan.resident else question.first_other(rows.start)
        starts = range(first, count, plan.chunk) or range(1)
        for begin in starts:
            end = min(begin + plan.chunk, count)
            ends = begin == starts[0], begin == starts[-1]
            yield _Step(number, rows, turn, begin, end, *ends)


_Read = tuple[torch.Tensor, torch.Tensor | None, Chunk]
"""The block if it is a new one, what its reducer needs, and the chunk."""


class Reader:
    """Reads blocks and chunks into two buffers each, in turn, so that one can be used meanwhile.

    These are on the plan's device, as chunks are; what else a question needs is on the CPU.
    """

    def __init__(self, question: Question, plan: Plan) -> None:
        self._question, self._plan = question, plan
        self._blocks = Buffers(question.block, plan.block, plan.device)
        self._chunks = Buffers(question.others, plan.chunk, plan.device)
        self._resident: Chunk | None = None
        self._stream = side_stream(plan.device)

    def read(self, place: int, step: _Step) -> _Read:
        with beside(self._stream):
            return self._read(place, step)

    def _read(self, place: int, step: _Step) -> _Read:
        question = self._question
        block, read = torch.empty(0), None
        if step.first:
            block = self._blocks.fill(step.turn, step.rows.start, len(step.rows))
            check_finite(question.block, block, step.rows.start)
            read = question.read(step.rows.start, step.rows.stop)
        if self._resident is not None and step.end > step.begin:
            return block, read, self._resident
        rows = self._chunks.fill(place, step.begin, step.end - step.begin)
        if not self._plan.resident or step.begin == step.end:
            return block, read, self._chunk(rows, step.begin, step.end)
        check_finite(question.others, rows, 0)
        self.keep(pack(rows, copy=False))
        assert self._resident is not None
        return block, read, self._resident

    def keep(self, others: PackedKeys) -> None:
        """Keep all of the other side, packed: it is not read again."""
        self._resident = self._chunk(others, 0, len(others))

    def _chunk(self, keys: torch.Tensor | PackedKeys, begin: int, end: int) -> Chunk:
        of_keys = self._question.of_chunk(begin, end)
        return Chunk(keys, begin, None if of_keys is None else of_keys.to(self._plan.device))
