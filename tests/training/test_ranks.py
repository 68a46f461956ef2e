from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.host
SCRIPT = Path(__file__).parent / "ranks.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs of ranks.py."""
    folder = tmp_path_factory.mktemp("ranks")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,
    )
    try:
        status = process.wait(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for rank in range(2):
        assert (folder / f"ok-{rank}").exists(), (folder / f"output-{rank}").read_text()
    assert status == 0
    return folder


def numbers(path: Path) -> torch.Tensor:
    lines = path.read_text().splitlines()[1:]
    return torch.tensor([[float(x) if x else -1.0 for x in line.split(",")] for line in lines])


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("command-1", "command-2"),
        ("parts-1", "parts-2"),
        ("tags-1", "tags-2"),
        ("whole", "killed"),
    ],
)
def test_ranks_equal_one_process(folder: Path, one: str, many: str) -> None:
    start = load_file(folder / "model" / "model.safetensors")
    expected, found = (load_file(folder / name / "model.safetensors") for name in (one, many))
    assert found.keys() == expected.keys()
    moved = 0
    for name, weights in expected.items():
        way, error = (weights - start[name]).norm(), (found[name] - weights).norm()
        assert error <= 1e-6 * weights.norm(), name
        if way > 1e-3 * weights.norm():
            assert error <= 1e-4 * way, name
            moved += 1
    assert moved >= 20
    for table in ("log.csv", "validation.csv"):
        if (folder / one / table).exists():
            ours, theirs = (numbers(folder / name / table) for name in (many, one))
            assert len(theirs) >= 2
            assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6)
