"""How often a call makes the host wait for the device: once, for all that it checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

import fastclip
from fastclip.engine import checks
from fastclip.engine.devices import EMULATED

pytestmark = pytest.mark.skipif(not EMULATED, reason="needs emulated kernels")

READS = "item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__int__", "__float__"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what would make the host wait, were the tensors on a device."""
    counted: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return function(*args, **kwargs)

        return call

    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, counting(name, getattr(torch.Tensor, name)))
    return counted


QUERIES, KEYS = torch.randn(5, 20), torch.randn(300, 20)
TARGETS = torch.tensor([3, 0, 199, 7, 7])
THRESHOLDS = torch.zeros(5)
GROUPS = torch.arange(300) % 40

CALLS: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "topk": lambda q, k: fastclip.topk(q, k, 3),
    "topk of many": lambda q, k: fastclip.topk(q, k, 290),
    "rank": lambda q, k: fastclip.rank(q, k, TARGETS),
    "count_above": lambda q, k: fastclip.count_above(q, k, THRESHOLDS),
    "group_max": lambda q, k: fastclip.group_max(q, k, GROUPS, num_groups=40),
    "group_mean": lambda q, k: fastclip.group_mean(q, k, GROUPS, num_groups=40),
    "group_beats": lambda q, k: fastclip.group_beats(q, k, GROUPS, TARGETS, num_groups=40),
    "cache_logits": lambda q, k: fastclip.cache_logits(q, k, torch.ones(300, 2), beta=5.0),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
def test_waits_once(call: Callable[..., object], packed: bool, reads: Counter[str]) -> None:
    keys = fastclip.pack(KEYS) if packed else KEYS
    reads.clear()
    call(QUERIES, keys)
    assert reads == {"tolist": 1}


@pytest.mark.usefixtures("packs_early")
def test_waits_once_where_keys_are_packed_on_the_way(reads: Counter[str]) -> None:
    fastclip.topk(QUERIES, KEYS, 3)
    assert reads == {"tolist": 1}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_graph_is_captured_without_waiting(
    call: Callable[..., object], reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "capturing", lambda _: True)
    call(QUERIES, KEYS)
    assert not reads


def test_compiled_calls_wait_for_each_operator() -> None:
    compiled = torch.compile(
        lambda q, k: fastclip.rank(q, k, TARGETS), fullgraph=True, backend="eager"
    )
    assert torch.equal(compiled(QUERIES, KEYS), fastclip.rank(QUERIES, KEYS, TARGETS))
    with pytest.raises(ValueError, match=r"^keys: row 0 holds NaN or infinity"):
        compiled(QUERIES, KEYS * torch.nan)


def test_queries_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    run = checks.run
    monkeypatch.setattr(
        checks, "run", lambda name, x, *rest: (looked_at.append(len(x)), run(name, x, *rest))[1]
    )
    fastclip.rank(QUERIES, KEYS, TARGETS)
    assert looked_at == [len(QUERIES), len(KEYS)]


def test_the_first_error_counts() -> None:
    """As where each check waits by itself."""
    queries, keys = QUERIES.clone(), KEYS.clone()
    targets = np.array([3, 0, 299, 300, -1])
    keys[200, 3] = torch.nan
    with pytest.raises(ValueError, match=r"^targets: must be from 0 to 299.* got 300 at 3$"):
        fastclip.rank(queries, keys, targets)
    with pytest.raises(ValueError, match=r"^keys: row 200 holds NaN or infinity"):
        fastclip.rank(queries, keys, TARGETS)
    queries[2, 0] = torch.inf
    with pytest.raises(ValueError, match=r"^queries: row 2 holds NaN or infinity"):
        fastclip.rank(queries, keys, targets)
    with pytest.raises(ValueError, match=r"^queries: row 2 holds NaN or infinity"):
        fastclip.topk(queries, keys, 3)
    with pytest.raises(ValueError, match=r"^thresholds: NaN at 1$"):
        fastclip.count_above(QUERIES, KEYS, torch.tensor([0, torch.nan, 0, torch.nan, 0]))
    for groups, said in [(GROUPS.where(GROUPS != 3, 4), "group 3 has no key"), (GROUPS - 1, "-1")]:
        with pytest.raises(ValueError, match=said):
            fastclip.group_max(QUERIES, KEYS, groups, num_groups=40)
    assert fastclip.rank(QUERIES, KEYS, TARGETS).shape == (5,)  # and no check is left over


MORE_CALLS: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    **CALLS,
    "logsumexp": lambda q, k: fastclip.logsumexp(q, k, 10.0),
}


@pytest.mark.parametrize("call", MORE_CALLS.values(), ids=MORE_CALLS.keys())
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("packing", [False, True], ids=["", "packed on the way"])
def test_numbers_that_are_not_finite_do_no_harm(
    call: Callable[..., object], number: float, packing: bool, request: pytest.FixtureRequest
) -> None:
    """The kernels meet them before the host knows."""
    if packing:
        request.getfixturevalue("packs_early")
    queries, keys = QUERIES.clone(), KEYS.clone()
    queries[3:] = number
    keys[207:] = number
    with pytest.raises(ValueError, match=r"^queries: row 3 holds NaN or infinity"):
        call(queries, KEYS)
    with pytest.raises(ValueError, match=r"^keys: row 207 holds NaN or infinity"):
        call(QUERIES, keys)


def test_another_error_does_not_hide_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = QUERIES.clone()
    queries[4] = torch.nan

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(import_module("fastclip.ops.topk"), "run", fail)
    with pytest.raises(ValueError, match=r"^queries: row 4 holds NaN or infinity"):
        fastclip.topk(queries, KEYS, 3)
    with pytest.raises(RuntimeError, match="out of memory"):
        fastclip.topk(QUERIES, KEYS, 3)
