"""The operators as torch sees them: schemas, fake kernels, torch.compile."""

from __future__ import annotations

import pytest
import torch

import fastclip
from fastclip.engine.packing import encode

pytestmark = [pytest.mark.usefixtures("tensors_on_device"), pytest.mark.once]

OPERATORS = {
    "topk": lambda q, k: (torch.ops.fastclip.topk.default, (q, k, [], None, 3)),
    "topk, packed": lambda q, k: (
        torch.ops.fastclip.topk.default,
        (q, k.detach(), encode(k.detach()), None, 3),
    ),
    "count_ahead": lambda q, k: (
        torch.ops.fastclip.count_ahead.default,
        (q, k, encode(k.detach()), None, torch.zeros(4), torch.zeros(4, dtype=torch.int64), True),
    ),
    "group_max": lambda q, k: (
        torch.ops.fastclip.group_max.default,
        (q, k, [], torch.tensor([0, 1, 1, 0, 2, 2]), 3),
    ),
    "group_beats": lambda q, k: (
        torch.ops.fastclip.group_beats.default,
        (
            q.detach(),
            k.detach(),
            [],
            torch.zeros(4),
            torch.zeros(4).long(),
            torch.zeros(6).long(),
            1,
        ),
    ),
    "pairs_above": lambda q, k: (
        torch.ops.fastclip.pairs_above.default,
        (q.detach(), k.detach(), [], 0.5, False),
    ),
    "pair_scores": lambda q, k: (
        torch.ops.fastclip.pair_scores.default,
        (q.detach(), k.detach(), torch.tensor([[1, 5, 0, 0], [2, 2, 3, 4]]).T),
    ),
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
        (torch.ones(()).double(), q.detach(), None, 2.0),
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
        + fastclip.group_max(queries, keys, groups, num_groups=4).values.sum()
    )


PIXEL_OPERATORS = {
    "pixel_scores": lambda p, t: (torch.ops.fastclip.pixel_scores.default, (p, t, True)),
    "pixel_labels": lambda p, t: (
        torch.ops.fastclip.pixel_labels.default,
        (p.detach(), t.detach(), (7, 9), 2, 0.1, True),
    ),
    "refine_masks": lambda p, t: (
        torch.ops.fastclip.refine_masks.default,
        (p.detach(), p[:, :2].detach(), 2, [1, 2]),
    ),
}


@pytest.mark.parametrize("operator", PIXEL_OPERATORS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck_of_pixels(operator: str, requires_grad: bool) -> None:
    pixels = torch.randn(2, 8, 3, 4, requires_grad=requires_grad)
    tags = torch.randn(6, 8, requires_grad=requires_grad)
    op, arguments = PIXEL_OPERATORS[operator](pixels, tags)
    torch.library.opcheck(op, arguments)


def _segment(pixels: torch.Tensor, tags: torch.Tensor) -> tuple[torch.Tensor, ...]:
    size = (pixels.shape[2] * 4, pixels.shape[3] * 4)
    values, indices, survivors = fastclip.pixel_labels(
        pixels, tags, size, 2, background=0.2, return_survivors=True
    )
    refined = fastclip.refine_masks(values, values, iterations=2)
    return fastclip.pixel_scores(pixels, tags).values.sum(), indices, survivors, refined


@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_pixels_compile_as_one_graph(backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(_segment, fullgraph=True, backend=backend, dynamic=True)
    for h in (3, 5):
        pixels, tags = torch.randn(2, 8, h, 4, requires_grad=True), torch.randn(6, 8)
        result, expected = compiled(pixels, tags), _segment(pixels, tags)
        for got, want in zip(result, expected, strict=True):
            torch.testing.assert_close(got, want)
        (grad,) = torch.autograd.grad(result[0], pixels)
        (want,) = torch.autograd.grad(expected[0], pixels)
        torch.testing.assert_close(grad, want)


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
    keys, groups = fastclip.pack(torch.randn(20, 16)), torch.arange(20) % 4

    def search(q: torch.Tensor) -> tuple[torch.Tensor, ...]:
        best = fastclip.topk(q, keys, 3).indices
        ranks = fastclip.rank(q, keys, best[:, 1])
        beaten = fastclip.group_beats(q, keys, groups, best[:, 0], num_groups=4)
        return best, ranks, fastclip.count_above(q, keys, 0.5), beaten

    q = torch.randn(5, 16)
    found = torch.compile(search, fullgraph=True)(q)
    assert all(torch.equal(a, b) for a, b in zip(found, search(q), strict=True))
    assert torch.equal(found[1], torch.ones(5, dtype=torch.int64))


def test_scatter_rows_adds_repeated_pairs() -> None:
    features = torch.randn(3, 4)
    row, source = torch.tensor([1, 1, 0, 1]), torch.tensor([2, 0, 1, 2])
    weight = torch.randn(4)
    expected = torch.zeros(2, 4).index_add_(0, row, weight[:, None] * features[source])
    result = torch.ops.fastclip.scatter_rows(row, source, weight, features, 2)
    torch.testing.assert_close(result, expected)
