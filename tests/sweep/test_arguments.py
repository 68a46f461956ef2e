"""Arguments of sweeps: taken and refused as by the function in memory, before work starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastclip
from fastclip.engine.checks import INTEGERS
from fastclip.engine.tuning import TUNING

pytestmark = pytest.mark.host

N, V, D = 25, 40, 4


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    queries, keys = (rng.standard_normal((count, D), np.float32) for count in (N, V))
    return torch.from_numpy(queries), torch.from_numpy(keys)


@pytest.fixture
def ask(
    rows: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """A function that asks by a sweep; each call goes on with the one before."""
    monkeypatch.setattr(TUNING, "column_numbers", 7)
    for name, part in zip(("queries", "keys"), rows, strict=True):
        np.save(tmp_path / f"{name}.npy", part.numpy())

    def run(op: str, **arguments: Any) -> Any:
        files = (tmp_path / f"{name}.npy" for name in ("queries", "keys"))
        fastclip.sweep.run(op, *files, tmp_path / "out", shard_size=10, **arguments)
        return fastclip.sweep.read(tmp_path / "out")

    return run


def arrays(numbers: list[int]) -> list[Any]:
    array = np.array(numbers)
    dtypes = ("i8", "i4", "i2", "i1", "u1", "u2", "u4", "u8", ">i8", ">i2")
    return [
        *(torch.tensor(numbers, dtype=dtype) for dtype in INTEGERS),
        *(array.astype(dtype) for dtype in dtypes),
        torch.tensor(numbers).repeat_interleave(2)[::2],
        array[::-1].copy()[::-1],
    ]


@pytest.mark.parametrize(
    ("op", "name", "numbers"),
    [
        ("rank", "targets", [i * 3 % V for i in range(N)]),
        ("group_max", "groups", [i % 13 for i in range(V)]),
    ],
)
def test_integers_of_any_dtype(
    op: str,
    name: str,
    numbers: list[int],
    rows: tuple[torch.Tensor, torch.Tensor],
    ask: Callable[..., Any],
    tmp_path: Path,
) -> None:
    expected = getattr(fastclip, op)(*rows, torch.tensor(numbers))
    for array in arrays(numbers):
        sources = [array]
        if isinstance(array, np.ndarray):
            np.save(tmp_path / "numbers.npy", array)
            sources.append(tmp_path / "numbers.npy")
        for source in sources:
            found = ask(op, **{name: source})  # the same numbers: the sweep goes on
            parts = zip(found, expected, strict=True) if op == "group_max" else [(found, expected)]
            assert all(torch.equal(one, other) for one, other in parts)


def with_one(count: int, at: int, value: float, dtype: Any = np.int64) -> Any:
    numbers = np.zeros(count, dtype)
    numbers[at] = value
    return numbers


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("topk", {"k": 0}),
        ("topk", {"k": V + 1}),
        ("topk", {"k": 1.5}),
        ("rank", {"targets": np.zeros(3, np.int64)}),
        ("rank", {"targets": np.zeros((N, 1), np.int64)}),
        ("rank", {"targets": np.array(0)}),
        ("rank", {"targets": np.zeros(N, np.float32)}),
        ("rank", {"targets": torch.zeros(N, dtype=torch.bool)}),
        ("rank", {"targets": with_one(N, 17, -1)}),
        ("rank", {"targets": with_one(N, 24, V)}),
        ("rank", {"targets": with_one(N, 17, 2**63 + 5, np.uint64)}),
        ("rank", {"targets": [0] * N}),
        ("rank", {"targets": None}),
        ("count_above", {"thresholds": with_one(N, 17, np.nan, np.float32)}),
        ("count_above", {"thresholds": with_one(N, 17, np.nan, np.float32), "per": "query"}),
        ("count_above", {"thresholds": float("nan")}),
        ("count_above", {"thresholds": np.zeros(N)}),
        ("count_above", {"thresholds": np.zeros(N + 1, np.float32)}),
        ("count_above", {"thresholds": 1, "per": "x"}),
        ("pairs_above", {"threshold": float("nan")}),
        ("group_max", {"groups": np.full(V, 1)}),
        ("group_max", {"groups": np.full(V, -1)}),
        ("group_max", {"groups": with_one(V, 30, -1)}),
        ("group_mean", {"groups": with_one(V, 30, V)}),
        ("group_beats", {"groups": np.zeros(V + 1, np.int8), "targets": np.zeros(N, np.int8)}),
        ("logsumexp", {"scale": float("inf")}),
        ("logsumexp", {"scale": "x"}),
    ],
)
def test_refused_in_the_words_of_the_function(
    op: str,
    arguments: dict[str, Any],
    rows: tuple[torch.Tensor, torch.Tensor],
    ask: Callable[..., Any],
    tmp_path: Path,
) -> None:
    with pytest.raises((TypeError, ValueError)) as in_memory:
        getattr(fastclip, op)(*rows, **arguments)
    with pytest.raises(in_memory.type) as refused:
        ask(op, **arguments)
    assert str(refused.value) == str(in_memory.value)
    assert not (tmp_path / "out").exists()


def test_refused_files(ask: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "numbers.npy").write_bytes(b"x")
    for path, message in (("none.npy", "none.npy: .*No such file"), ("numbers.npy", "numbers.npy")):
        with pytest.raises(fastclip.data.FeatureFileError, match=message):
            ask("count_above", thresholds=tmp_path / path)
    with pytest.raises(
        ValueError, match="k: must be from 1 to the number of keys 40, got 11805916"
    ):
        ask("topk", k=2**70)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [float("inf"), -float("inf"), 1, 0.5])
@pytest.mark.parametrize("op", ["count_above", "pairs_above"])
def test_thresholds_of_one_number(
    op: str, number: float, rows: tuple[torch.Tensor, torch.Tensor], ask: Callable[..., Any]
) -> None:
    name = "thresholds" if op == "count_above" else "threshold"
    expected = getattr(fastclip, op)(*rows, number)
    for _ in range(2):
        found = ask(op, **{name: number})
    assert torch.equal(found.to_dense(), expected.to_dense())


def test_numbers_of_numpy_as_arguments(
    rows: tuple[torch.Tensor, torch.Tensor], ask: Callable[..., Any]
) -> None:
    assert torch.equal(ask("topk", k=np.int64(3)).indices, fastclip.topk(*rows, 3).indices)
