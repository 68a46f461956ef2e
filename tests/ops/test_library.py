"""The operators as torch sees them: schemas, fake kernels, torch.compile."""

from __future__ import annotations

import pytest
import torch

import fastclip

OPERATORS = {
    "topk": lambda q, k: (torch.ops.fastclip.topk.default, (q, k, 3, True)),
    "similarity": lambda q, k: (torch.ops.fastclip.similarity.default, (q, k, torch.half, True)),
    "similarity_out": lambda q, k: (
        torch.ops.fastclip.similarity_out.default,
        (q.detach(), k.detach(), torch.empty(len(q), len(k)), True),
    ),
    "logsumexp": lambda q, k: (
        torch.ops.fastclip.logsumexp.default,
        (q, k, torch.tensor(2.0, requires_grad=q.requires_grad), True),
    ),
    "logsumexp_backward": lambda q, k: (
        torch.ops.fastclip.logsumexp_backward.default,
        (torch.ones(4), q.detach(), k.detach(), torch.tensor(2.0), torch.zeros(4)),
    ),
    "gaussian_potential": lambda q, k: (
        torch.ops.fastclip.gaussian_potential.default,
        (q, k, 2.0),
    ),
    "gaussian_potential, x only": lambda q, k: (
        torch.ops.fastclip.gaussian_potential.default,
        (q, None, 2.0),
    ),
    "gaussian_potential_backward": lambda q, k: (
        torch.ops.fastclip.gaussian_potential_backward.default,
        (torch.ones(()).double(), q.detach(), None, 2.0, torch.zeros(()).double()),
    ),
    "group_mean_keys": lambda q, k: (
        torch.ops.fastclip.group_mean_keys.default,
        (k, torch.arange(6) % 2, 2, True),
    ),
    "cache_logits": lambda q, k: (
        torch.ops.fastclip.cache_logits.default,
        (q, k, torch.randn(6, 3, requires_grad=k.requires_grad), 0.5, True),
    ),
    "cache_logits_backward": lambda q, k: (
        torch.ops.fastclip.cache_logits_backward.default,
        (torch.randn(4, 3), q.detach(), k.detach(), torch.randn(6, 3), 0.5),
    ),
    "scatter_rows": lambda q, k: (
        torch.ops.fastclip.scatter_rows.default,
        (torch.tensor([0, 2]), torch.tensor([1, 1]), torch.ones(2), k.detach(), 4),
    ),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(operator: str, requires_grad: bool) -> None:
    q = torch.randn(4, 8, requires_grad=requires_grad)
    k = torch.randn(6, 8, requires_grad=requires_grad)
    op, arguments = OPERATORS[operator](q, k)
    torch.library.opcheck(op, arguments)


def _loss(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    best = fastclip.topk(torch.nn.functional.normalize(queries), keys, 3)
    groups = torch.arange(len(keys)) % 4
    return (
        best.values.sum()
        + fastclip.similarity(queries, keys).mean()
        + fastclip.logsumexp(queries, keys, 2.0).sum()
        + fastclip.gaussian_potential(queries)
        + fastclip.gaussian_potential(keys, queries)
        + fastclip.cache_logits(queries, keys, keys[:, :3], 0.1).sum()
        + fastclip.group_mean(queries, keys, groups, num_groups=4).square().sum()
    )


@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_compiles_as_one_graph(backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(_loss, fullgraph=True, backend=backend, dynamic=True)
    for count in (5, 9):
        q, k = torch.randn(count, 16, requires_grad=True), torch.randn(20, 16)
        loss = compiled(q, k)
        (grad,) = torch.autograd.grad(loss, q)
        (expected,) = torch.autograd.grad(_loss(q, k), q)
        torch.testing.assert_close(loss, _loss(q, k))
        torch.testing.assert_close(grad, expected)


def test_compiles_with_a_learned_scale() -> None:
    torch._dynamo.reset()

    def loss(q: torch.Tensor, k: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        return fastclip.logsumexp(q, k, log_scale.exp()).mean()

    q, k = (torch.nn.functional.normalize(torch.randn(count, 16)) for count in (5, 20))
    log_scale = torch.tensor(0.7, requires_grad=True)
    compiled = torch.compile(loss, fullgraph=True)
    (grad,) = torch.autograd.grad(compiled(q, k, log_scale), log_scale)
    (expected,) = torch.autograd.grad((log_scale.exp() * q @ k.T).logsumexp(1).mean(), log_scale)
    torch.testing.assert_close(grad, expected)


def test_compiles_with_packed_keys() -> None:
    torch._dynamo.reset()
    keys = fastclip.pack(torch.randn(20, 16))
    compiled = torch.compile(lambda q: fastclip.topk(q, keys, 3).indices, fullgraph=True)
    q = torch.randn(5, 16)
    assert torch.equal(compiled(q), fastclip.topk(q, keys, 3).indices)


def test_scatter_rows_adds_repeated_pairs() -> None:
    features = torch.randn(3, 4)
    row, source = torch.tensor([1, 1, 0, 1]), torch.tensor([2, 0, 1, 2])
    weight = torch.randn(4)
    expected = torch.zeros(2, 4).index_add_(0, row, weight[:, None] * features[source])
    result = torch.ops.fastclip.scatter_rows(row, source, weight, features, 2)
    torch.testing.assert_close(result, expected)
