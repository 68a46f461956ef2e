"""Every public function against every kind of input: the right answer or an error by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
import zoo

import fastclip

pytestmark = pytest.mark.once

EXPECTED = {
    **{kind: {"right"} for kind in zoo.RIGHT},
    **{kind: {"refused"} for kind in zoo.REFUSED},
    **{kind: {"right", "refused", zoo.DEPENDS_ON_NUMBERS} for kind in zoo.SURVIVED},
}


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, str], str]:
    """What came of each argument and kind, in another process; in a new one after a crash."""
    found: dict[tuple[str, str], str] = {}
    for _ in range(5):
        command = [sys.executable, zoo.__file__, str(len(found))]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        for line in run.stdout.splitlines():
            _, argument, kind, *end = json.loads(line)
            found[argument, kind] = end[0] if end else "ended the process"
        if run.returncode == 0:
            break
    crashed = [case for case, end in found.items() if end == "ended the process"]
    assert run.returncode == 0, f"{crashed} {run.stderr[-2000:]}"
    return found


@pytest.mark.parametrize("kind", EXPECTED)
def test_kind(kind: str, outcomes: dict[tuple[str, str], str]) -> None:
    found = {argument: outcomes[argument, kind] for argument in zoo.ARGUMENTS}
    if zoo.NOT_INSTALLED in found.values():
        pytest.skip(f"{kind}: not installed")
    allowed = EXPECTED[kind] | {zoo.LEFT_OUT}
    wrong = {argument: end for argument, end in found.items() if end not in allowed}
    assert not wrong
    assert set(found.values()) & EXPECTED[kind]


def test_every_function_is_in_the_zoo() -> None:
    called = {argument.split("(")[0] for argument in zoo.ARGUMENTS}
    functions = {name for name in fastclip.ops.__all__ if name.islower()}
    assert functions <= called


Q, K = zoo.GOOD, zoo.KEYS


def _memory(rows: int = 6, columns: int = 6) -> np.ndarray:
    return np.zeros((rows, columns), np.float32)


@pytest.mark.parametrize("kind", zoo.WRONG_OUT)
def test_refuses_out(kind: str, outcomes: dict[tuple[str, str], str]) -> None:
    assert outcomes["similarity(out)", kind] in ("refused", zoo.NOT_INSTALLED)


def test_immutable_arrays_stay_as_they_are() -> None:
    out = pytest.importorskip("jax").numpy.zeros((6, 6))
    with pytest.raises(ValueError, match=r"^out: .* read-only"):
        fastclip.similarity(Q, K, out=out)
    assert not np.asarray(out).any()


RIGHT_OUT = {
    "tensor": lambda: torch.zeros(6, 6),
    "inference": lambda: zoo._inference(torch.zeros(6, 6)),
    "columns of a wider matrix": lambda: torch.zeros(6, 9)[:, 2:8],
    "NumPy": _memory,
    "memory map": lambda: zoo._in_file(_memory(), "r+"),
    "DLPack that says it may": lambda: zoo.OnlyDLPack(torch.zeros(6, 6), versioned=True),
}


@pytest.mark.parametrize("kind", RIGHT_OUT)
def test_writes_to_out(kind: str) -> None:
    out = RIGHT_OUT[kind]()
    fastclip.similarity(Q, K, out=out)
    written = torch.as_tensor(out.x if isinstance(out, zoo.OnlyDLPack) else out)
    assert torch.equal(written, fastclip.similarity(Q, K))


def test_axes_of_length_1_have_any_stride() -> None:
    row = np.arange(4, dtype=np.float32)[None]
    expected = reference.similarity(row, row)
    assert reference.same_bits(fastclip.similarity(row[::-1], row[::-1]), expected)
    assert reference.same_bits(fastclip.similarity(row.T[:, ::-1].T, row), expected)
    out = np.zeros((1, 4), np.float32)
    fastclip.similarity(np.ones((1, 1), np.float32), row.T, out=out[::-1])
    assert np.array_equal(out, row)
    column = np.zeros((4, 1), np.float32)
    fastclip.similarity(torch.from_numpy(row.T), torch.ones(1, 1), out=torch.from_numpy(column))
    assert np.array_equal(column, row.T)
    with pytest.raises(ValueError, match=r"^out: .* rows apart"):
        fastclip.similarity(row.T, torch.ones(1, 1), out=torch.zeros(1, 1).expand(4, 1))


# Of one block of memory, in floats: queries and keys [6, 8], out [6, 6], each as (offset, stride).
OVERLAPS = {
    "the same begin": ((0, 8), (100, 8), (0, 6), "queries"),
    "the last number": ((0, 8), (100, 8), (47, 6), "queries"),
    "the first number of keys": ((100, 8), (40, 8), (5, 6), "keys"),
    "behind each other": ((0, 8), (48, 8), (96, 6), None),
    "before each other": ((36, 8), (84, 8), (0, 6), None),
    "side by side": ((0, 22), (8, 22), (16, 22), None),
    "side by side, over one": ((0, 22), (8, 22), (15, 22), "keys"),
    "side by side, the next row": ((0, 21), (8, 21), (16, 21), "queries"),
    "other strides, between": ((0, 40), (300, 8), (10, 20), None),
    "other strides, later rows meet": ((0, 40), (300, 8), (10, 19), "queries"),
}


@pytest.mark.parametrize("case", OVERLAPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_out_may_not_share_memory(case: str, dtype: torch.dtype) -> None:
    queries, keys, out, named = OVERLAPS[case]
    memory = torch.arange(400).remainder(7).to(dtype)
    q, k = (memory.as_strided((6, 8), (stride, 1), at) for at, stride in (queries, keys))
    target = memory.as_strided((6, 6), (out[1], 1), out[0])
    before, expected = memory.clone(), fastclip.similarity(q, k, dtype=dtype)
    if named:
        with pytest.raises(ValueError, match=f"^out: shares memory with {named}"):
            fastclip.similarity(q, k, out=target)
        assert torch.equal(memory, before)
        with pytest.raises(ValueError, match=f"^out: shares memory with {named}"):
            fastclip.similarity(q, fastclip.pack(k, copy=False), out=target)
    else:
        assert torch.equal(fastclip.similarity(q, k, out=target), expected)


def test_out_may_not_be_the_other_view_of_rows_apart() -> None:
    square = torch.randn(6, 6)
    with pytest.raises(ValueError, match=r"^out: shares memory with queries"):
        fastclip.similarity(square.T, torch.randn(6, 6), out=square)


def test_packed_keys_whose_rows_were_freed(outcomes: dict[tuple[str, str], str]) -> None:
    assert outcomes["topk(keys)", "packed, then freed"] == "refused"


def test_functions_that_read_at_once_refuse_transforms() -> None:
    for transform, shape in ((torch.vmap, (3, 4, 5)), (torch.func.grad, (4, 5))):
        with pytest.raises(TypeError, match=r"^keys: its numbers are read at once"):
            transform(lambda x: fastclip.pack(x).center.sum())(torch.randn(*shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16])
def test_integers_of_every_size(dtype: type) -> None:
    targets = np.arange(6, dtype=dtype)
    expected = fastclip.rank(Q, K, torch.arange(6))
    for given in (targets, torch.from_numpy(targets)):
        assert torch.equal(fastclip.rank(Q, K, given), expected)
    if dtype == np.uint64:
        targets[4] = 2**63 + 5
        for given in (targets, torch.from_numpy(targets)):
            with pytest.raises(ValueError, match=f"^targets: .* got {2**63 + 5} at 4"):
                fastclip.rank(Q, K, given)


def test_numpy_bfloat16() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    array = Q.numpy().astype(bfloat16)
    assert torch.equal(fastclip.similarity(array, K), fastclip.similarity(Q.bfloat16(), K))


def test_what_is_accepted_is_documented() -> None:
    assert "np.asarray(x, np.float32)" in (fastclip.ops.__doc__ or "")
    page = Path(__file__).parents[2] / "docs" / "reference" / "inputs.rst"
    if page.exists():
        assert ".. automodule:: fastclip.ops" in page.read_text("utf-8")
