"""The shards of a sweep on a Ray cluster: Ray decides who makes which, and what is made again."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fastclip import _C
from fastclip.data.job_folder import RECORDS, write_record
from fastclip.engine.packed import PackedKeys
from fastclip.engine.packing import pack
from fastclip.engine.stream import Plan, Question, Reader

from ._results import RESULTS, answers, result_file, write_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PACKED = "packed.safetensors"
_TRIES = 3  # of a shard whose workers die


@dataclass(frozen=True)
class Work:
    """What a worker needs to know."""

    question: Question
    plan: Plan
    output: Path
    packed: Path | None
    """The side that is streamed, packed, where it fits into memory."""
    isa: str


def check_ray() -> None:
    """Check that Ray Data is there, before work starts."""
    if find_spec("ray") is None or find_spec("pandas") is None:
        raise ImportError("engine 'ray' needs Ray Data: pip install 'fastclip-kernels[ray]'")


def on_ray(
    question: Question,
    plan: Plan,
    output: Path,
    blocks: Sequence[tuple[int, range]],
    workers: int | None,
) -> Iterator[int]:
    """Yield the number of each shard when it is finished, in any order."""
    if not blocks:
        return
    with _runtime() as ray, _packed(question, plan, output) as packed:
        shards = ray.data.from_items(
            [{"number": n, "begin": rows.start, "end": rows.stop} for n, rows in blocks],
            override_num_blocks=len(blocks),
        )
        most = workers or int(ray.cluster_resources().get("CPU", 1))
        done = shards.map_batches(
            _Worker,
            fn_constructor_args=(Work(question, plan, output.resolve(), packed, _C.isa()),),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=min(most, len(blocks))),
        )
        for row in done.iter_rows():
            if row["error"]:
                raise pickle.loads(row["error"])
            yield int(row["number"])
    for folder in (RESULTS, RECORDS):
        for part in (output / folder).glob(".*.tmp"):
            part.unlink()  # left by a worker that was killed


class _Worker:
    """An actor of one CPU; what it reads once, such as packed keys, serves all of its shards."""

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(1)
        if not work.question.operation.exact:
            _C.select_isa(work.isa)  # sums in float32 have other bits on another
        self._work, self._reader = work, Reader(work.question, work.plan)
        if work.packed is not None:
            self._reader.keep(PackedKeys.load(work.packed))

    def __call__(self, batch: dict[str, npt.NDArray[np.int64]]) -> dict[str, Any]:
        number, begin, end = (int(batch[name][0]) for name in ("number", "begin", "end"))
        error = b""
        try:
            self._make(number, range(begin, end))
        except (OSError, TypeError, ValueError) as caught:
            error = pickle.dumps(caught)  # raised, it would lose its type on the way
        return {"number": [number], "error": [error]}

    def _make(self, number: int, rows: range) -> None:
        work = self._work
        path = result_file(work.output, number)
        # Ray replaces workers for ever: a byte in this file stands for each that began the shard.
        begun = path.with_name(f".{path.name}.begun.tmp")
        with open(begun, "ab") as file:
            file.write(b".")
        if begun.stat().st_size > _TRIES:
            raise ChildProcessError(
                f"{path}: its workers have died {_TRIES} times, perhaps for want of memory; "
                "finished shards are kept"
            )
        blocks = [(number, rows)]
        ((_, fields),) = answers(work.question, work.plan, blocks, self._reader)
        write_table(path, work.question.operation.row, rows.start, fields)
        write_record(work.output, number, [path])
        begun.unlink(missing_ok=True)


@contextmanager
def _runtime() -> Iterator[Any]:
    """Connect to the cluster of RAY_ADDRESS or of this machine; without one, start one here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    import ray
    import ray.data

    own = not ray.is_initialized()
    if own:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it reports its progress, too
    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield ray
    finally:
        context.enable_progress_bars = shown
        if own:
            ray.shutdown()


@contextmanager
def _packed(question: Question, plan: Plan, output: Path) -> Iterator[Path | None]:
    """Pack the side that is streamed into a file that all workers of a machine map, if it fits."""
    if not plan.resident:
        yield None
        return
    others = question.others
    rows = torch.empty(len(others), others.dim, dtype=others.dtype)
    others.read(0, rows)
    path = output.resolve() / PACKED
    pack(rows, copy=False).save(path)
    del rows
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
