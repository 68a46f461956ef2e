from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastclip

CHECKS = Path(__file__).parent / "checks.py"
RANKS = 3


@pytest.mark.host
def test_two_and_three_ranks(tmp_path: Path) -> None:
    """All of checks.py in three processes, started once."""
    paths = [path for path in sys.path if path]
    process = subprocess.Popen(
        [sys.executable, str(CHECKS), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
    )
    try:
        process.wait(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for rank in range(RANKS):
        output = tmp_path / f"output-{rank}"
        assert (tmp_path / f"ok-{rank}").exists(), f"rank {rank}:\n{output.read_text()}"


def test_without_a_process_group() -> None:
    with pytest.raises(RuntimeError, match=r"call torch\.distributed\.init_process_group"):
        fastclip.distributed.ShardedKeys(torch.eye(2))


def test_gather_takes_rows_alone() -> None:
    with pytest.raises(TypeError, match=r"rows: 1 or 2 dimensions of .* got shape \(1, 1, 1\) flo"):
        fastclip.distributed.gather(torch.ones(1, 1, 1))
