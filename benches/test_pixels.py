"""The cases of pixels and masks under pytest-benchmark: pytest benches [-k refine-masks]."""

from __future__ import annotations

from typing import Any

import pytest
from cases import CASES


@pytest.mark.parametrize("side", ["ours", "peers"])
@pytest.mark.parametrize("name", ["pixel-labels", "pixel-labels-random", "refine-masks"])
def test_pixels(benchmark: Any, name: str, side: str) -> None:
    case = CASES[name]()
    who, call = next(iter(getattr(case, side).items()))
    benchmark.group = case.description
    case.check(who, benchmark.pedantic(call, rounds=3, warmup_rounds=1))
