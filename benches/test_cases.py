"""The same cases under pytest-benchmark: pytest benches [-k topk-small]."""

from __future__ import annotations

from functools import cache
from typing import Any

import cases
import openness_cases
import pytest
import ttd_cases
from cases import Case

CASES = {**cases.CASES, **openness_cases.CASES, **ttd_cases.CASES}


@cache
def build(name: str) -> Case:
    return CASES[name]()


@pytest.mark.parametrize("side", ["ours", "peers"])
@pytest.mark.parametrize("name", CASES)
def test_case(benchmark: Any, name: str, side: str) -> None:
    case = build(name)
    benchmark.group = case.description
    who, call = next(iter(getattr(case, side).items()))
    case.check(who, benchmark.pedantic(call, rounds=3, warmup_rounds=1))
