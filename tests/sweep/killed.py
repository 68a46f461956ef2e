"""Kill a sweep at random moments until it has been hit often enough; for test_killed.py.

A process of its own that starts no threads, so that it can fork: each child is a run of the sweep,
without the seconds that importing torch takes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet
import torch

import fastclip


def run(folder: Path, output: Path) -> None:
    torch.set_num_threads(1)
    fastclip.sweep.run(
        "topk", folder / "queries.npy", folder / "keys.npy", output, shard_size=20, k=3
    )


def started(folder: Path, output: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            run(folder, output)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def main(folder: Path, kills: int) -> None:
    torch.set_num_threads(1)
    fsspec.filesystem("file")  # with the next line: import what each child would have to
    pyarrow.parquet.write_table(pyarrow.table({"x": np.zeros(1)}), folder / "x.parquet")
    begin = time.monotonic()
    assert ended(started(folder, folder / "undisturbed")) == 0
    duration = time.monotonic() - begin
    expected = content(folder / "undisturbed")

    generator = random.Random(0)
    output = folder / "killed"
    hits, finished, ended_alone = 0, [], 0
    while hits < kills:
        child = started(folder, output)
        time.sleep(generator.uniform(0, duration * 0.5))
        os.kill(child, signal.SIGKILL)
        code = ended(child)
        if code == -signal.SIGKILL:
            hits += 1
            if output.exists():
                finished.append(len(list((output / "shards").glob("shard_*.json"))))
            continue
        assert code == 0, code
        assert content(output) == expected  # not hit: it had finished; begin another one
        ended_alone += 1
        shutil.rmtree(output)
    assert ended(started(folder, output)) == 0
    assert content(output) == expected
    print(f"{hits} kills, {ended_alone} sweeps finished between, shards at each kill: {finished}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
