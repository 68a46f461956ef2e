"""The same cases under pytest-benchmark: pytest benches [-k topk-small]."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from cases import CASES, Case


@cache
def build(name: str) -> Case:
    return CASES[name]()


@pytest.mark.parametrize("side", ["fastclip.topk", "torch mm + topk", "FAISS IndexFlatIP"])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("topk")])
def test_topk(benchmark: Any, name: str, side: str) -> None:
    measure(benchmark, name, side)


@pytest.mark.parametrize("side", ["fastclip.logsumexp", "torch mm + logsumexp"])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("logsumexp")])
def test_logsumexp(benchmark: Any, name: str, side: str) -> None:
    measure(benchmark, name, side)


@pytest.mark.parametrize("side", ["fastclip.gaussian_potential", "torch mm + exp + mean"])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("gaussian")])
def test_gaussian_potential(benchmark: Any, name: str, side: str) -> None:
    measure(benchmark, name, side)


def measure(benchmark: Any, name: str, side: str) -> None:
    case = build(name)
    call = {**case.ours, **case.peers}[side]
    benchmark.group = case.description
    case.check(side, benchmark.pedantic(call, rounds=3, warmup_rounds=1))
