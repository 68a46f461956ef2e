"""Operations in captured CUDA graphs: replayed on other inputs, they give what a call gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastclip import ops
from fastclip.engine.devices import BUILT, EMULATED

pytestmark = pytest.mark.skipif(
    not BUILT or EMULATED or not torch.cuda.is_available(), reason="needs a GPU"
)

# Of queries, keys, packed keys and a number for each query. What needs to know how large its result
# is cannot be captured: pairs_above, and groups whose number is not given.
CALLS: dict[str, Callable[..., Any]] = {
    "topk": lambda q, k, packed, x: ops.topk(q, k, 5),
    "topk, packed": lambda q, k, packed, x: ops.topk(q, packed, 5),
    "rank": lambda q, k, packed, x: ops.rank(q, k, x.long()),
    "rank, packed": lambda q, k, packed, x: ops.rank(q, packed, x.long()),
    "count_above": lambda q, k, packed, x: ops.count_above(q, packed, x / 100, per="query"),
    "count_above per key": lambda q, k, packed, x: ops.count_above(q, k, x / 100),
    "group_max": lambda q, k, packed, x: ops.group_max(q, packed, _groups(k), num_groups=500),
    "group_mean": lambda q, k, packed, x: ops.group_mean(q, k, _groups(k), num_groups=500),
    "group_beats": lambda q, k, packed, x: ops.group_beats(
        q, k, _groups(k), x.long(), num_groups=500
    ),
    "similarity": lambda q, k, packed, x: ops.similarity(q, k),
    "logsumexp": lambda q, k, packed, x: ops.logsumexp(q, k, 100.0),
    "softmax_topk": lambda q, k, packed, x: ops.softmax_topk(q, k, 5, 100.0),
    "cache_logits": lambda q, k, packed, x: ops.cache_logits(q, k, k[:, :3], 5.0),
    "gaussian_potential": lambda q, k, packed, x: ops.gaussian_potential(q, k),
    "pixel_scores": lambda q, k, packed, x: ops.pixel_scores(_pixels(q), k),
    "pixel_labels": lambda q, k, packed, x: ops.pixel_labels(_pixels(q), packed, (20, 24), 2)[:2],
    "refine_masks": lambda q, k, packed, x: ops.refine_masks(
        q.T[None, :3].unflatten(2, (10, 12)), q.T[None, 3:5].unflatten(2, (10, 12))
    ),
}


def _groups(keys: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(keys), device=keys.device) % 500


def _pixels(rows: torch.Tensor) -> torch.Tensor:
    return rows.unflatten(0, (2, 6, 10)).permute(0, 3, 1, 2)


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.nn.functional.normalize(torch.randn(120, 64)), torch.rand(120) * 20


@pytest.mark.parametrize("name", CALLS)
def test_replayed(name: str, request: pytest.FixtureRequest) -> None:
    device = torch.device(request.config.getoption("--device") or "cuda")
    (queries, numbers), (other, others) = _inputs(), _inputs()
    given, x = queries.to(device), numbers.to(device)
    keys = torch.nn.functional.normalize(torch.randn(3000, 64)).to(device)
    packed = ops.pack(keys)

    def call() -> Any:
        return CALLS[name](given, keys, packed, x)

    call()  # what is set up by the first call cannot be captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = call()
    given.copy_(other)
    x.copy_(others)
    graph.replay()
    torch.cuda.synchronize()
    expected = call()
    pairs = [[a] if isinstance(a, torch.Tensor) else a for a in (found, expected)]
    for part, whole in zip(*pairs, strict=True):
        assert torch.equal(part, whole)
