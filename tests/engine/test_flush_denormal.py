"""Every operation while the caller lets torch flush denormals, on numbers that would be lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
import torch

import fastclip
from fastclip.engine.arguments import Sides
from fastclip.engine.floats import full, ordered, rounded, to_double, to_float
from fastclip.engine.operation import Part
from fastclip.ops import OPERATIONS

pytestmark = pytest.mark.host


def flushed(call: Callable[[], Any]) -> Any:
    """Return what ``call`` returns in a thread that flushes, as do the threads that it starts."""
    results = []

    def work() -> None:
        assert torch.set_flush_denormal(True)
        assert (torch.tensor([1e-40]) * 1).item() == 0
        torch.set_num_threads(2)
        torch.zeros(1 << 20).exp()  # starts the others
        results.append(call())

    if not torch.set_flush_denormal(False):
        pytest.skip("torch cannot flush denormals here")
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return results[0]


def tensors(result: Any) -> list[torch.Tensor]:
    """Return all tensors of a result."""
    if isinstance(result, fastclip.PackedKeys):
        return [result.rows, result.codes, result.bounds, result.center]
    if isinstance(result, torch.Tensor) and result.layout == torch.sparse_csr:
        return [result.crow_indices(), result.col_indices(), result.values()]
    if isinstance(result, tuple):
        return [x for x in result if x is not None]
    return [result]


def assert_same_bits(first: Any, second: Any) -> None:
    for a, b in zip(tensors(first), tensors(second), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert bytes(a.contiguous().view(-1).view(torch.uint8)) == bytes(
            b.contiguous().view(-1).view(torch.uint8)
        )


def normal(*shape: int, size: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * size).float()


Q, K = normal(9, 20), normal(700, 20, size=1e-41)  # denormal keys and scores
SMALL_Q, SMALL_K = normal(9, 20, size=1e-20), normal(700, 20, size=1e-20)  # denormal scores
HALF, BRAIN = normal(700, 20, size=1e-7).half(), normal(700, 20, size=1e-39).bfloat16()
GROUPS, TARGETS = torch.arange(700) // 7, torch.arange(9) * 11
PIXELS, TAGS = normal(1, 20, 4, 5), normal(30, 20, size=1e-41)
IMAGES, MASKS = normal(1, 3, 20, 25), normal(1, 2, 20, 25, size=1e-40)
HALF_MASKS = normal(1, 2, 20, 25, size=1e-7).half()
LARGE_Q, LARGE_K, SCALE = normal(9, 20, size=1e18), normal(70, 20, size=1e18), torch.tensor(1e-40)
HUGE_Q = normal(9, 20, size=1e30)
SCORES = torch.from_numpy(reference.similarity(SMALL_Q, SMALL_K))

CALLS: dict[str, Callable[[], Any]] = {
    "similarity": lambda: fastclip.similarity(Q, K),
    "similarity in bfloat16": lambda: fastclip.similarity(Q, K, dtype=torch.bfloat16),
    "topk": lambda: fastclip.topk(SMALL_Q, SMALL_K, 5),
    "topk, packed": lambda: fastclip.topk(Q, fastclip.pack(K), 5),
    "topk, float16": lambda: fastclip.topk(HALF[:9], HALF, 5),
    "topk, bfloat16": lambda: fastclip.topk(Q, BRAIN, 5),
    "rank": lambda: fastclip.rank(SMALL_Q, SMALL_K, TARGETS),
    "rank, packed": lambda: fastclip.rank(Q, fastclip.pack(K), TARGETS),
    "count_above": lambda: fastclip.count_above(SMALL_Q, SMALL_K, 1e-40),
    "count_above a tensor": lambda: fastclip.count_above(SMALL_Q, SMALL_K, SCORES[:, 3]),
    "pairs_above": lambda: fastclip.pairs_above(SMALL_Q, SMALL_K, 1e-40),
    "group_max": lambda: fastclip.group_max(SMALL_Q, SMALL_K, GROUPS),
    "group_max, packed": lambda: fastclip.group_max(Q, fastclip.pack(K), GROUPS),
    "group_beats": lambda: fastclip.group_beats(SMALL_Q, SMALL_K, GROUPS, TARGETS),
    "group_mean": lambda: fastclip.group_mean(HUGE_Q, K, GROUPS),
    "group_mean, bfloat16": lambda: fastclip.group_mean(Q, BRAIN, GROUPS),
    "logsumexp": lambda: fastclip.logsumexp(Q, K, 3e38),
    "logsumexp, float16": lambda: fastclip.logsumexp(Q, HALF, 1e7),
    "logsumexp, denormal scale": lambda: fastclip.logsumexp(LARGE_Q, LARGE_K, SCALE),
    "softmax_topk": lambda: fastclip.softmax_topk(SMALL_Q, SMALL_K, 5, 3e38),
    "gaussian_potential": lambda: fastclip.gaussian_potential(SMALL_K, t=3e38),
    "gaussian_potential, pairs": lambda: fastclip.gaussian_potential(K, SMALL_Q, t=3e38),
    "cache_logits": lambda: fastclip.cache_logits(Q, SMALL_K, K, 2.0),
    "pack": lambda: fastclip.pack(K),
    "pixel_scores": lambda: fastclip.pixel_scores(PIXELS, TAGS),
    "pixel_labels": lambda: fastclip.pixel_labels(PIXELS, TAGS, (9, 12), 3),
    "pixel_labels, background": lambda: fastclip.pixel_labels(
        PIXELS, TAGS, (9, 12), background=7e-41
    ),
    "refine_masks": lambda: fastclip.refine_masks(IMAGES, MASKS),
    "refine_masks, float16": lambda: fastclip.refine_masks(IMAGES, HALF_MASKS),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_same_bits(isa: str, threads: None, call: Callable[[], Any]) -> None:
    torch.set_num_threads(2)
    assert_same_bits(flushed(call), call())


def test_every_operation_is_tried() -> None:
    functions = {name for name in fastclip.ops.__all__ if name[0].islower()}
    assert functions == {name.split(",")[0].split(" ")[0] for name in CALLS}


def test_equal_the_reference(isa: str) -> None:
    def results() -> list[Any]:
        names = ("topk", "rank", "count_above", "pairs_above", "group_max", "pixel_labels")
        return [CALLS[name]() for name in names]

    best, ranks, counts, pairs, maxima, labels = flushed(results)
    values, indices = reference.topk(SMALL_Q, SMALL_K, 5)
    assert reference.same_bits(best.values, values)
    assert np.array_equal(best.indices, indices)
    assert np.array_equal(ranks, reference.rank(SMALL_Q, SMALL_K, TARGETS.numpy()))
    thresholds = np.full(9, 1e-40, np.float32)
    assert np.array_equal(counts, reference.count_above(SMALL_Q, SMALL_K, thresholds, "key"))
    assert np.array_equal(pairs.col_indices(), reference.pairs_above(SMALL_Q, SMALL_K, 1e-40)[1])
    assert reference.same_bits(
        maxima.values, reference.group_max(SMALL_Q, SMALL_K, GROUPS.numpy())[0]
    )
    assert reference.same_bits(labels.values, reference.pixel_labels(PIXELS, TAGS, (9, 12), 3)[0])


def test_sums_stay_within_their_error(isa: str) -> None:
    sums, means, weighted = flushed(
        lambda: [CALLS[name]() for name in ("logsumexp", "group_mean", "cache_logits")]
    )
    lost = 20 * 2.0**-149 * 3e38
    np.testing.assert_allclose(sums, reference.logsumexp(Q, K, 3e38), rtol=1e-6, atol=lost)
    expected = reference.group_mean(HUGE_Q, K, GROUPS.numpy())
    sizes = reference.score_sizes(HUGE_Q, K).reshape(9, 100, 7).mean(2)
    # Means that are denormal are rounded to a multiple of 2^-149.
    lost = 2.0**-150 * np.abs(reference.rows64(HUGE_Q)).sum(1, keepdims=True)
    assert (np.abs(means.double().numpy() - expected) <= 2**-23 * sizes + lost).all()
    np.testing.assert_allclose(
        weighted.double(), reference.cache_logits(Q, SMALL_K, K, 2.0), rtol=1e-5, atol=700 * 2**-149
    )


@pytest.mark.usefixtures("packs_early")
@pytest.mark.parametrize("name", ["topk", "rank", "count_above", "group_max"])
def test_packed_on_the_way(isa: str, threads: None, name: str) -> None:
    assert_same_bits(flushed(CALLS[name]), CALLS[name]())


IN_CHUNKS: dict[str, dict[str, Any]] = {
    "topk": {"k": 5},
    "rank": {"targets": TARGETS},
    "count_above": {"thresholds": 1e-40, "per": "query"},
    "pairs_above": {"threshold": 1e-40},
    "group_max": {"groups": torch.arange(700) % 9},
    "group_beats": {"groups": torch.arange(700) % 9, "targets": TARGETS},
    "logsumexp": {"scale": 3e38},
    "softmax_topk": {"k": 5, "scale": 3e38},
    "cache_logits": {"values": K, "beta": 2.0},
    "group_mean": {"groups": torch.arange(700) % 9},
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_chunks_of_keys(isa: str, threads: None, name: str) -> None:
    keys = K if name == "group_mean" else SMALL_K
    asked = OPERATIONS[name](Sides(9, 700, 700, 20, torch.device("cpu")), **IN_CHUNKS[name])

    def answer() -> Any:
        columns = asked.columns("query", 0, 9)
        if asked.has_targets:
            scores = torch.ops.fastclip.pair_scores(SMALL_Q, keys, columns["targets"])
            columns["target_scores"] = scores
        states = []
        for begin in (0, 256, 512):
            end = min(begin + 256, 700)
            chunk = Part(keys[begin:end], begin, asked.columns("key", begin, end))
            states.append(asked.add(asked.start(9), Part(SMALL_Q, 0, columns), chunk))
        state = asked.merge(asked.merge(states[2], states[0]), states[1])
        return asked.finish(state, SMALL_Q)

    assert_same_bits(flushed(answer), answer())


def test_conversions() -> None:
    numbers = [0.0, 1e-45, 7e-46, 8e-46, 1e-40, 1.17549429e-38, 1.1754943e-38, 1e-30, 1e38, 1e-60]
    numbers += [-x for x in numbers]
    expected = torch.tensor(numbers, dtype=torch.float64).float()
    floats = np.array(numbers, np.float32)
    doubles = floats.astype(np.float64)
    places = doubles[:, None] > doubles

    def results() -> list[Any]:
        cpu = torch.device("cpu")
        order = ordered(torch.from_numpy(floats))
        return [
            torch.cat([full(1, x, cpu) for x in numbers]),
            rounded(torch.tensor(numbers, dtype=torch.float64)[:, None]),
            rounded(torch.tensor(numbers, dtype=torch.float64)[:, None], torch.ones(20).long()),
            order[:, None] > order,
            to_double(torch.from_numpy(floats)),
            [to_float(x) for x in floats],
            [to_float(x) for x in torch.from_numpy(floats)],
        ]

    filled, alone, over_ones, greater, widened, of_numpy, of_torch = flushed(results)
    for result in (filled, alone[:, 0], over_ones[:, 0]):
        assert reference.same_bits(result, expected)
    assert np.array_equal(greater, places)
    assert widened.tolist() == of_numpy == of_torch == doubles.tolist()
