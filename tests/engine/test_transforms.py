"""Transforms of torch.func, forward mode, second derivatives: right, or refused in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.autograd import forward_ad

import fastclip

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("tensors_on_device")]

Function = Callable[..., torch.Tensor]

GROUPS = torch.arange(6) % 3
PACKED = fastclip.pack(torch.eye(6, 8))


def _of_groups(scores: torch.Tensor, reduce: Function) -> torch.Tensor:
    return torch.stack([reduce(scores[:, g::3]) for g in range(3)], 1)


# Ours and torch's, of queries [N, d] and keys [6, d].
LINEAR: dict[str, tuple[Function, Function]] = {
    "topk": (lambda q, k: fastclip.topk(q, k, 2).values, lambda q, k: (q @ k.T).topk(2).values),
    "similarity": (fastclip.similarity, lambda q, k: q @ k.T),
    "group_max": (
        lambda q, k: fastclip.group_max(q, k, GROUPS).values,
        lambda q, k: _of_groups(q @ k.T, lambda x: x.amax(1)),
    ),
    "pixel_scores": (
        lambda q, k: fastclip.pixel_scores(q.view(1, 2, 2, -1).permute(0, 3, 1, 2), k).values,
        lambda q, k: (k @ q.T).amax(1)[None],
    ),
}
OTHERS: dict[str, tuple[Function, Function]] = {
    "logsumexp": (
        lambda q, k: fastclip.logsumexp(q, k, 3.0),
        lambda q, k: (3 * q @ k.T).logsumexp(1),
    ),
    "gaussian_potential": (
        lambda q, k: fastclip.gaussian_potential(q, k),
        lambda q, k: (-2 * (q[:, None] - k).square().sum(2)).exp().mean().log(),
    ),
    "cache_logits": (
        lambda q, k: fastclip.cache_logits(q, k, k[:, :3], 0.5),
        lambda q, k: (-0.5 * (1 - q @ k.T)).exp() @ k[:, :3],
    ),
    "group_mean": (
        lambda q, k: fastclip.group_mean(q, k, GROUPS),
        lambda q, k: _of_groups(q @ k.T, lambda x: x.mean(1)),
    ),
}
DIFFERENTIABLE = LINEAR | OTHERS
WHOLE: dict[str, Function] = {
    "topk": lambda q, k: fastclip.topk(q, k, 2).indices,
    "topk, packed": lambda q, k: fastclip.topk(q, PACKED, 2).indices,
    "rank": lambda q, k: fastclip.rank(q, k, torch.arange(4)),
    "count_above": lambda q, k: fastclip.count_above(q, k, 0.5),
    "group_beats": lambda q, k: fastclip.group_beats(q, k, GROUPS, torch.arange(4)),
    "pixel_labels": lambda q, k: fastclip.pixel_labels(q.T.reshape(1, -1, 2, 2), k, (3, 3)).indices,
    "refine_masks": lambda q, k: fastclip.refine_masks(*[q.reshape(1, 2, 4, 4)] * 2),
}


def features() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, 8), torch.randn(6, 8)


def close(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, check_dtype=False, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0), (1, 2)])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_vmap(name: str, in_dims: tuple[int | None, int | None]) -> None:
    ours, plain = DIFFERENTIABLE[name]
    pairs = zip(features(), in_dims, strict=True)
    inputs = [x if dim is None else torch.stack([x, 2 * x, -x]).movedim(0, dim) for x, dim in pairs]
    close(torch.vmap(ours, in_dims)(*inputs), torch.vmap(plain, in_dims)(*inputs))


@pytest.mark.parametrize("name", WHOLE)
def test_vmap_of_whole_numbers(name: str) -> None:
    function = WHOLE[name]
    q, k = torch.randn(3, 4, 8), torch.randn(6, 8)
    found = torch.vmap(function, (0, None))(q, k)
    assert torch.equal(found, torch.stack([function(x, k) for x in q]))
    assert not torch.func.grad(lambda x: function(x, k).double().sum() + x.sum())(q[0]).sub(1).any()


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_reverse_mode(name: str) -> None:
    ours, plain = DIFFERENTIABLE[name]
    q, k = features()
    close(torch.func.jacrev(ours, (0, 1))(q, k), torch.func.jacrev(plain, (0, 1))(q, k))

    def loss(function: Function, q: torch.Tensor) -> torch.Tensor:
        return function(q, k).square().sum()

    found, expected = (torch.func.grad(loss, 1)(function, q) for function in (ours, plain))
    close(found, expected)
    if torch.torch_version.TorchVersion(torch.__version__) >= (2, 12):
        # torch 2.11 cannot trace gradients of operators inside transforms.
        close(torch.compile(torch.func.grad(loss, 1))(ours, q), expected)
    samples = torch.stack([q, -q])
    for_each = [torch.vmap(torch.func.grad(loss, 1), (None, 0))(f, samples) for f in (ours, plain)]
    close(*for_each)


@pytest.mark.parametrize("name", LINEAR)
def test_forward_mode(name: str) -> None:
    ours, plain = LINEAR[name]
    inputs, tangents = features(), features()
    expected = torch.func.jvp(plain, inputs, tangents)
    close(torch.func.jvp(ours, inputs, tangents), expected)
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, inputs, tangents)
        found = forward_ad.unpack_dual(ours(*duals))
    close((found.primal, found.tangent), expected)
    close(*(torch.func.jacfwd(function, 0)(*inputs) for function in (ours, plain)))


@pytest.mark.parametrize("name", OTHERS)
def test_forward_mode_is_refused(name: str) -> None:
    ours, _ = OTHERS[name]
    inputs = features()
    words = f"^fastclip.{name}: forward-mode .* is not implemented; use reverse mode"
    with pytest.raises(NotImplementedError, match=words):
        torch.func.jvp(ours, inputs, inputs)
    with pytest.raises(NotImplementedError, match=words), forward_ad.dual_level():
        ours(*map(forward_ad.make_dual, inputs, inputs))


@pytest.mark.parametrize("name", LINEAR)
def test_second_derivatives(name: str) -> None:
    ours, plain = LINEAR[name]
    q, k = features()

    def penalty(function: Function) -> tuple[torch.Tensor, ...]:
        leaves = q.clone().requires_grad_(), k.clone().requires_grad_()
        grads = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(grad.square().sum() for grad in grads), leaves)

    close(penalty(ours), penalty(plain))
    hessians = [
        torch.func.hessian(lambda q, k, f=f: f(q, k).square().sum(), (0, 1))(q, k)
        for f in (ours, plain)
    ]
    close(*hessians)


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "group_mean"])
def test_second_derivatives_are_refused(name: str) -> None:
    ours, _ = OTHERS[name]
    q, k = features()
    q.requires_grad_()
    (grad,) = torch.autograd.grad(ours(q, k).square().sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match=f"^fastclip.{name}: second derivatives are not"):
        grad.square().sum().backward()


def test_results_whose_size_depends_on_values_are_refused() -> None:
    q, k = torch.randn(3, 4, 8), torch.randn(6, 8)
    with pytest.raises(NotImplementedError, match=r"^fastclip\.pairs_above: cannot be used within"):
        torch.vmap(lambda x: fastclip.pairs_above(x, k, 0.5))(q)
    with pytest.raises(NotImplementedError, match=r"^fastclip\.similarity with out: cannot be"):
        torch.vmap(lambda x: fastclip.similarity(x, k, out=torch.empty(4, 6)))(q)


@pytest.mark.parametrize("name", DIFFERENTIABLE | WHOLE)
def test_traced_by_torch_jit(name: str) -> None:
    function = DIFFERENTIABLE[name][0] if name in DIFFERENTIABLE else WHOLE[name]
    if name.startswith("topk"):
        pytest.skip("torch.jit.trace refuses lists of tensors that are empty")
    (q, k), other = features(), torch.randn(4, 8)
    traced = torch.jit.trace(lambda q: function(q, k), q, check_trace=False)
    torch.testing.assert_close(traced(other), function(other, k))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_in_batches(name: str) -> None:
    ours, _ = DIFFERENTIABLE[name]
    q, k = features()
    found, expected = (
        torch.autograd.functional.jacobian(lambda q: ours(q, k), q, vectorize=vectorize)
        for vectorize in (True, False)
    )
    close(found, expected)


def test_vmap_of_nothing_is_refused() -> None:
    with pytest.raises(NotImplementedError, match=r"^fastclip\.topk: a batch of at least one"):
        torch.vmap(lambda q: fastclip.topk(q, torch.eye(8), 1).values)(torch.zeros(0, 3, 8))


def test_the_number_of_groups_must_be_given_inside_a_transform() -> None:
    q, k = features()
    with pytest.raises(TypeError, match=r"^num_groups: must be given where groups are"):
        torch.vmap(lambda g: fastclip.group_max(q, k, g).values)(GROUPS.expand(2, 6))


def test_tangents_are_float32_whatever_the_default() -> None:
    q, k = features()
    torch.set_default_dtype(torch.float64)
    try:
        for ours, _ in LINEAR.values():
            assert torch.func.jvp(lambda q, f=ours: f(q, k), (q,), (q,))[1].dtype == torch.float32
            torch.func.hessian(lambda q, f=ours: f(q, k).square().sum())(q)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", LINEAR)
def test_forward_mode_inside_autocast(name: str) -> None:
    ours, plain = LINEAR[name]
    inputs, tangents = features(), features()
    with torch.autocast(inputs[0].device.type, dtype=torch.bfloat16):
        found = torch.func.jvp(ours, inputs, tangents)
    close(found, torch.func.jvp(plain, inputs, tangents))


def test_writing_into_what_a_backward_needs_is_noticed() -> None:
    w, z = torch.randn(4, 4), torch.randn(4, 4, requires_grad=True)
    loss = (w * z).sum()
    fastclip.similarity(torch.randn(4, 5), torch.randn(4, 5), out=w)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_small_calls_see_forward_mode() -> None:
    """Tensors without a gradient go past torch's dispatcher, but not where tangents matter."""
    q, k = features()
    with forward_ad.dual_level():
        value = fastclip.topk(forward_ad.make_dual(q, torch.ones_like(q)), k, 1).values
        assert forward_ad.unpack_dual(value).tangent is not None
