"""Two processes of one thread each, as ranks, against one process of two threads.

python benches/ranks_cases.py STORE is the second rank: it answers until the first ends.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, reference, unit_rows
from torch import distributed

import fastclip

RANKS, K = 2, 10
QUERIES, KEYS, DIM = 2048, 500_000, 512


def rows_of(rank: int) -> tuple[torch.Tensor, fastclip.distributed.ShardedKeys]:
    """Return this rank's half of the queries, and the keys."""
    half = QUERIES // RANKS
    queries = unit_rows(QUERIES, DIM, 0)[rank * half : (rank + 1) * half]
    keys = unit_rows(KEYS, DIM, 1)
    return queries, fastclip.distributed.ShardedKeys.split(keys)


def join(store: str, rank: int) -> None:
    limit = timedelta(minutes=1)
    distributed.init_process_group("gloo", f"file://{store}", limit, RANKS, rank)


def ranks_case() -> Case:
    store = Path(tempfile.mkdtemp()) / "store"
    subprocess.Popen([sys.executable, __file__, str(store)])
    join(str(store), 0)
    most = torch.get_num_threads()
    own, sharded = rows_of(0)
    queries, keys = unit_rows(QUERIES, DIM, 0), unit_rows(KEYS, DIM, 1)
    packed = fastclip.pack(keys, copy=False)
    values, indices = reference.topk(queries[:4], keys, K)

    def on_ranks() -> Any:
        torch.set_num_threads(1)
        try:
            return fastclip.topk(own, sharded, K)
        finally:
            torch.set_num_threads(most)

    def check(who: str, answer: Any) -> None:
        assert np.array_equal(answer.indices[:4].numpy(), indices)
        assert reference.same_bits(answer.values[:4], values)

    return Case(
        description=f"top-{K} on ranks, {QUERIES:,} x {KEYS:,} x {DIM} float32, packed keys",
        work=2.0 * QUERIES * KEYS * DIM,
        ours={f"{RANKS} gloo ranks, 1 thread each": on_ranks},
        peers={f"1 process, {most} threads": lambda: fastclip.topk(queries, packed, K)},
        check=check,
    )


def answer_until_the_end(store: str) -> None:
    torch.set_num_threads(1)
    join(store, 1)
    own, keys = rows_of(1)
    while True:
        try:
            fastclip.topk(own, keys, K)
        except fastclip.distributed.RankError:
            return


CASES = {"ranks": ranks_case}


if __name__ == "__main__":
    answer_until_the_end(sys.argv[1])
