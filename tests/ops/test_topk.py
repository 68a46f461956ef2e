from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import DTYPES, Problem, hard_cases, many_ties, problems

import fastclip
from fastclip.engine.tuning import TUNING

pytestmark = pytest.mark.usefixtures("always_screen")


def assert_exact(problem: Problem, k: int, keys: object = None) -> None:
    result = fastclip.topk(problem.queries, problem.keys if keys is None else keys, k)
    values, indices = reference.topk(problem.queries, problem.keys, k)
    assert result.indices.dtype == torch.int64
    assert np.array_equal(result.indices.numpy(), indices)
    assert reference.same_bits(result.values, values)


@given(problem=problems(), data=st.data())
def test_equals_the_reference(isa: str, problem: Problem, data: st.DataObject) -> None:
    count = len(problem.keys)
    if count == 0:
        with pytest.raises(ValueError, match="k: must be from 1 to the number of keys 0"):
            fastclip.topk(problem.queries, problem.keys, 1)
        return
    k = data.draw(st.integers(1, count) | st.just(count))
    packed = data.draw(st.booleans())
    assert_exact(problem, k, fastclip.pack(problem.keys) if packed else None)


@pytest.mark.parametrize("k", [1, 10, 64, 700])
@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
@pytest.mark.parametrize("problem", hard_cases().values(), ids=hard_cases().keys())
def test_hard_cases(isa: str, problem: Problem, packed: bool, k: int) -> None:
    assert_exact(problem, k, fastclip.pack(problem.keys) if packed else None)


@pytest.mark.parametrize(
    ("queries", "keys", "width", "k"),
    [
        (1, 5000, 40, 7),
        (1, 5000, 40, 5000),
        (7, 900, 4100, 3),
        (600, 900, 20, 100),
        (40, 7000, 24, 300),  # candidates are dropped by their bounds more than once
        (40, 1, 65, 1),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_blocks_and_threads(
    isa: str,
    threads: None,
    num_threads: int,
    packed: bool,
    queries: int,
    keys: int,
    width: int,
    k: int,
) -> None:
    problem = many_ties(queries, keys, width)
    torch.set_num_threads(num_threads)
    assert_exact(problem, k, fastclip.pack(problem.keys) if packed else None)


@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
def test_a_thousand_ties_for_the_last_place(isa: str, packed: bool) -> None:
    keys = torch.zeros(3000, 8)
    keys[500:1500] = 1.0
    keys[2990:] = 2.0
    result = fastclip.topk(torch.ones(2, 8), fastclip.pack(keys) if packed else keys, 20)
    assert result.indices[0].tolist() == [*range(2990, 3000), *range(500, 510)]


@pytest.mark.large
def test_keys_of_more_than_2_to_the_31_elements(isa: str) -> None:
    row = torch.randn(1, 4096)
    result = fastclip.topk(torch.ones(1, 4096), row.expand(2**19 + 5, 4096), 3)
    assert result.indices.tolist() == [[0, 1, 2]]
    assert reference.same_bits(
        result.values, reference.similarity(torch.ones(1, 4096), row.expand(3, -1))
    )


@pytest.mark.large
def test_rows_further_apart_than_2_to_the_31_elements() -> None:
    keys = np.zeros((3, 2**30), np.float16)[:, :4]  # pages never touched take no memory
    keys[2] = 1
    result = fastclip.topk(np.ones((1, 4), np.float16), keys, 1)
    assert (result.indices.item(), result.values.item()) == (2, 4.0)


@pytest.mark.parametrize("packed", [False, True])
def test_recall_on_real_features(isa: str, packed: bool) -> None:
    images = fastclip.data.load_sample("coco-images").normalized().features
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    for queries, keys, expected in [
        (images, captions, (0.552, 0.808, 0.892)),
        (captions, images, (0.506, 0.766, 0.862)),
    ]:
        result = fastclip.topk(queries, fastclip.pack(keys) if packed else keys, 10)
        values, indices = reference.topk(queries, keys, 10)
        assert np.array_equal(result.indices.numpy(), indices)
        assert reference.same_bits(result.values, values)
        found = result.indices == torch.arange(500)[:, None]
        assert tuple(found[:, :k].any(1).double().mean().item() for k in (1, 5, 10)) == expected


@pytest.mark.large
def test_class_names_shared_by_vocabularies(isa: str) -> None:
    lvis = fastclip.data.load_sample("lvis").normalized()
    coco = fastclip.data.load_sample("coco").normalized()
    result = fastclip.topk(coco.features, lvis.features, 5)
    values, indices = reference.topk(coco.features, lvis.features, 5)
    assert np.array_equal(result.indices.numpy(), indices)
    assert reference.same_bits(result.values, values)
    shared = [i for i, name in enumerate(coco.names) if name in lvis.names and " " not in name]
    assert len(shared) > 20
    assert all(lvis.names[result.indices[i, 0]] == coco.names[i] for i in shared)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient(dtype: torch.dtype) -> None:
    q = torch.randn(6, 20).to(dtype).requires_grad_()
    k = torch.randn(30, 20).to(dtype).requires_grad_()
    weight = torch.randn(6, 4)
    result = fastclip.topk(q, k, 4)
    assert not result.indices.requires_grad
    grads = torch.autograd.grad((result.values * weight).sum(), (q, k))
    exact = (q.double() @ k.double().T).gather(1, result.indices)
    expected = torch.autograd.grad((exact * weight).sum(), (q, k))
    for grad, want in zip(grads, expected, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, want)


def test_gradient_of_one_side_only() -> None:
    q, k = torch.randn(6, 20, requires_grad=True), torch.randn(30, 20)
    fastclip.topk(q, fastclip.pack(k), 2).values.sum().backward()
    expected = k[fastclip.topk(q, k, 2).indices].sum(1)
    torch.testing.assert_close(q.grad, expected)


@pytest.mark.large
def test_packs_many_keys_on_the_way(isa: str, packs_early: None) -> None:
    for problem in hard_cases().values():
        assert_exact(problem, 10)
    assert_exact(Problem(torch.randn(40, 70), torch.randn(700, 70).round()), 100)


@pytest.mark.large
def test_survivors(isa: str) -> None:
    queries, keys = (torch.nn.functional.normalize(torch.randn(n, 512)) for n in (50, 20_000))
    plain, scored = fastclip.topk(queries, keys, 5, return_survivors=True)
    screened, survivors = fastclip.topk(queries, fastclip.pack(keys), 5, return_survivors=True)
    assert scored < 50 * 20_000 / 20  # in float32, which drops no fewer
    assert survivors < 50 * 20_000 / 20
    assert torch.equal(plain.indices, screened.indices)
    assert reference.same_bits(plain.values, screened.values)


@pytest.mark.parametrize("queries", [1, 4, 5])
@pytest.mark.parametrize("keys", [500, 3071, 3072, 4000])
def test_either_side_of_where_screening_pays(
    isa: str, monkeypatch: pytest.MonkeyPatch, queries: int, keys: int
) -> None:
    monkeypatch.setattr(TUNING, "always_screen", False)
    problem = Problem(torch.randn(queries, 33), torch.randn(keys, 33).round())
    assert_exact(problem, 1, fastclip.pack(problem.keys))
