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


ROUNDING = {
    "whole": "whole-divided",
    "parts-1": "parts-divided",
    "tags-1": "tags-divided",
    "command-1": "command-divided",
}
"""Runs of one process, and the same with other numbers of rows encoded at once. BLAS then adds the
same numbers in another order, and gradients are sums of other parts: so it is with ranks."""

MARGIN = 16
"""How many times the largest difference by rounding is allowed between ranks and one process. On
five sets of instructions, ranks differed by 0.5 to 3.4 times as much as one process from itself."""


def numbers(path: Path) -> torch.Tensor:
    lines = path.read_text().splitlines()[1:]
    cells = [[float(x) if x else -1.0 for x in line.split(",")] for line in lines]
    return torch.tensor(cells, dtype=torch.float64)


def differences(folder: Path, one: str, other: str) -> tuple[float, float]:
    """By how much two runs differ at most: in a tensor of weights, by how far the first has moved
    it; in a number of a table, by the number or, if it is below 1, by 1."""
    start = load_file(folder / "model" / "model.safetensors")
    expected, found = (load_file(folder / name / "model.safetensors") for name in (one, other))
    assert found.keys() == expected.keys()
    of_weights = []
    moved = 0
    for name, weights in expected.items():
        way, least = (weights - start[name]).norm(), 1e-3 * weights.norm()
        moved += int(way > least)
        error = (found[name] - weights).norm()
        of_weights.append(error.item() / max(way.item(), least.item(), 1e-30))
    assert moved >= 20
    of_tables = []
    for table in ("log.csv", "validation.csv"):
        if (folder / one / table).exists():
            theirs, ours = (numbers(folder / name / table) for name in (one, other))
            assert len(theirs) >= 2
            assert ours.shape == theirs.shape
            of_tables.append(((ours - theirs).abs() / theirs.abs().clamp(min=1)).max().item())
    return max(of_weights), max(of_tables)


@pytest.fixture(scope="module")
def allowed(folder: Path) -> tuple[float, float]:
    """The largest differences of weights and of tables that rounding explains."""
    found = [differences(folder, one, divided) for one, divided in ROUNDING.items()]
    weights, tables = (MARGIN * max(part) for part in zip(*found, strict=True))
    return weights, tables


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("command-1", "command-2"),
        ("parts-1", "parts-2"),
        ("tags-1", "tags-2"),
        ("whole", "killed"),
    ],
)
def test_ranks_equal_one_process(
    folder: Path, allowed: tuple[float, float], one: str, many: str
) -> None:
    weights, tables = differences(folder, one, many)
    assert weights <= allowed[0]
    assert tables <= allowed[1]


@pytest.mark.parametrize(
    "mistake", ["lose_a_row", "divide_by_five_of_six", "repeat_a_step", "forget_moments"]
)
def test_a_mistake_would_show(folder: Path, allowed: tuple[float, float], mistake: str) -> None:
    weights, tables = differences(folder, "whole", mistake)
    assert weights > 50 * allowed[0]
    assert tables > 50 * allowed[1]
