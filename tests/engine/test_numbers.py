"""Arguments that are single numbers: of every kind, and out of range."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import fastclip
from fastclip.metrics import similarity_histograms
from fastclip.metrics.openness import accuracy_by_size, vocabulary_expansion

pytestmark = pytest.mark.once

Q = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
K = torch.randn(5, 8, generator=torch.Generator().manual_seed(2))
GROUPS = torch.tensor([0, 1, 1, 0, 2])
PIXELS = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(3))
IMAGES, MASKS = torch.rand(1, 3, 5, 4), torch.rand(1, 2, 5, 4)
LABELS = torch.arange(6) % 3

# By the name of the argument, with the function where several have it.
REALS: dict[str, Callable[[Any], Any]] = {
    "beta": lambda x: fastclip.cache_logits(Q, K, K, x),
    "scale": lambda x: fastclip.logsumexp(Q, K, x),
    "scale, softmax": lambda x: fastclip.softmax_topk(Q, K, 2, x).probabilities,
    "t": lambda x: fastclip.gaussian_potential(Q, t=x),
    "t of uniformity": lambda x: fastclip.metrics.uniformity(Q, t=x),
    "background": lambda x: fastclip.pixel_labels(PIXELS, K, (4, 5), background=x)[:2],
}
THRESHOLDS: dict[str, Callable[[Any], Any]] = {
    "thresholds": lambda x: fastclip.count_above(Q, K, x),
    "threshold": lambda x: fastclip.pairs_above(Q, K, x).to_dense(),
}
INTEGERS: dict[str, Callable[[Any], Any]] = {
    "k": lambda x: fastclip.topk(Q, K, x),
    "k, packed": lambda x: fastclip.topk(Q, fastclip.pack(K), x),
    "k of pixels": lambda x: fastclip.pixel_labels(PIXELS, K, (4, 5), x)[:2],
    "size": lambda x: fastclip.pixel_labels(PIXELS, K, (x, 5))[:2],
    "size, second": lambda x: fastclip.pixel_labels(PIXELS, K, [4, x])[:2],
    "iterations": lambda x: fastclip.refine_masks(IMAGES, MASKS, iterations=x),
    "dilations": lambda x: fastclip.refine_masks(IMAGES, MASKS, dilations=[x, 2]),
    "num_groups": lambda x: fastclip.group_max(Q, K, GROUPS, num_groups=x),
    "num_groups of means": lambda x: fastclip.group_mean(Q, K, GROUPS, num_groups=x),
    "num_groups of bits": lambda x: fastclip.group_beats(Q, K, GROUPS, LABELS, num_groups=x),
    "ks": lambda x: fastclip.metrics.retrieval(Q, Q.flip(0), ks=(1, x)).image_to_text,
    "bins": lambda x: similarity_histograms(Q, LABELS, K[:3], torch.arange(3), bins=x).steps,
    "sizes": lambda x: accuracy_by_size(Q, LABELS, K[:3], K, [2, x]),
    "seed": lambda x: (
        vocabulary_expansion(Q, LABELS, K[:3], torch.arange(3), permutations=4, seed=x).acc_s
    ),
}


def _equal(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def _name(case: str) -> str:
    return case.split()[0].rstrip(",")


NUMBERS = {
    "float32": np.float32,
    "float16": np.float16,
    "float64": np.float64,
    "Fraction": Fraction,
    "Decimal": Decimal,
    "0-d array": np.array,
    "0-d float32 array": lambda x: np.array(x, np.float32),
    "0-d tensor": torch.tensor,
    "0-d float64 tensor": lambda x: torch.tensor(x, dtype=torch.float64),
    "0-d negated tensor": lambda x: torch._neg_view(torch.tensor(-x)),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("case", [*REALS, *THRESHOLDS])
def test_real_numbers_of_every_kind(case: str, kind: str) -> None:
    call = {**REALS, **THRESHOLDS}[case]
    _equal(call(NUMBERS[kind](0.5)), call(0.5))


@pytest.mark.parametrize("case", [*REALS, *THRESHOLDS])
def test_whole_numbers_are_real(case: str) -> None:
    call = {**REALS, **THRESHOLDS}[case]
    for two in (2, np.int32(2), np.array(2)):
        _equal(call(two), call(2.0))


NO_NUMBERS = {
    "bool": True,
    "NumPy bool": np.True_,
    "bool tensor": torch.tensor(True),
    "str": "1",
    "bytes": b"1",
    "complex": 1j,
    "NumPy complex": np.complex64(1),
    "complex array": np.array(1j),
    "list": [1.0],
    "object": object(),
    "masked": np.ma.masked,
    "meta": torch.tensor(1.0, device="meta"),
    "several": torch.tensor([1.0, 2.0, 3.0]),
    "several in NumPy": np.array([1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize("case", [*REALS, *THRESHOLDS, *INTEGERS])
def test_what_is_no_number(case: str, kind: str) -> None:
    call = {**REALS, **THRESHOLDS, **INTEGERS}[case]
    with pytest.raises((TypeError, ValueError), match=f"^{_name(case)}: "):
        call(NO_NUMBERS[kind])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e39, -1e300, 10**400])
@pytest.mark.parametrize("case", REALS)
def test_reals_out_of_range(case: str, number: float) -> None:
    with pytest.raises(ValueError, match=f"^{_name(case)}: a finite float32 number is needed, got"):
        REALS[case](number)


@pytest.mark.parametrize("packed", [False, True])
def test_thresholds_beyond_float32_are_infinite(packed: bool) -> None:
    keys = fastclip.pack(K) if packed else K
    for below in (-1e300, -(10**400), -math.inf, np.float64(-1e39), torch.tensor(-1e300).double()):
        assert fastclip.count_above(Q, keys, below).tolist() == [6] * 5
        assert fastclip.pairs_above(Q, keys, below).values().numel() == 30
    for above in (1e300, 10**400, math.inf, np.float64(1e39), Decimal("1e400")):
        assert not fastclip.count_above(Q, keys, above).any()
        assert fastclip.pairs_above(Q, keys, above).values().numel() == 0


def test_thresholds_round_to_the_nearest_float32() -> None:
    largest = torch.full((1, 1), torch.finfo(torch.float32).max)
    one = torch.ones(1, 1)
    almost = 2.0**128 - 2.0**103
    for threshold, above in ((math.nextafter(almost, 0), 0), (-almost, 1), (almost, 0)):
        assert fastclip.count_above(largest, one, threshold).tolist() == [above]
    for threshold, above in ((math.nextafter(-almost, 0), 0), (-almost, 1)):
        assert fastclip.count_above(-largest, one, threshold).tolist() == [above]
        assert fastclip.pairs_above(-largest, one, threshold).values().numel() == above


def test_thresholds_are_converted_by_the_caller() -> None:
    for given, message in (
        (torch.zeros(6).double(), r"got float64; pass thresholds.to\(torch.float32\)"),
        (np.zeros(6), r"got float64; pass thresholds.astype\(np.float32\)"),
        (np.zeros(6, int), r"got int64; pass thresholds.astype\(np.float32\)"),
        ([0.0] * 6, r"got list; pass np.asarray\(thresholds, np.float32\)"),
    ):
        with pytest.raises(TypeError, match=f"^thresholds: .*{message}"):
            fastclip.count_above(Q, K, given)
    for number in (math.nan, np.float32("nan")):
        for case, call in THRESHOLDS.items():
            with pytest.raises(ValueError, match=f"^{case}: must be a number, got nan"):
                call(number)


def test_targets_are_converted_by_the_caller() -> None:
    for given, message in (
        (torch.zeros(6), r"got float32; pass targets.to\(torch.int64\)"),
        (np.zeros(6), r"got float64; pass targets.astype\(np.int64\)"),
        (torch.zeros(6) > 0, r"got bool; pass targets.to\(torch.int64\)"),
        (np.zeros(6, bool), r"got bool; pass targets.astype\(np.int64\)"),
        ([0] * 6, r"got list; pass np.asarray\(targets, np.int64\)"),
    ):
        with pytest.raises(TypeError, match=f"^targets: .*{message}"):
            fastclip.rank(Q, K, given)


WHOLE = {
    "NumPy": np.int16,
    "NumPy uint64": np.uint64,
    "0-d array": np.array,
    "0-d tensor": torch.tensor,
    "uint8 tensor": lambda x: torch.tensor(x, dtype=torch.uint8),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("case", INTEGERS)
def test_integers_of_every_kind(case: str, kind: str) -> None:
    _equal(INTEGERS[case](WHOLE[kind](3)), INTEGERS[case](3))


@pytest.mark.parametrize("number", [1.0, np.float32(1), torch.tensor(1.0), math.nan, None, "1"])
@pytest.mark.parametrize("case", INTEGERS)
def test_integers_are_no_floats(case: str, number: object) -> None:
    if number is None and case.startswith("num_groups"):
        return
    with pytest.raises(TypeError, match=f"^{_name(case)}: an integer is needed, got "):
        INTEGERS[case](number)


@pytest.mark.parametrize("number", [5.0, np.float64(5), np.float32(5), torch.tensor(5.0)])
def test_a_float_that_is_whole_is_named_with_what_to_pass(number: object) -> None:
    with pytest.raises(TypeError, match=r"^k: an integer is needed, got float\d* 5\.0; pass 5$"):
        fastclip.topk(np.eye(8, dtype=np.float32), np.eye(8, dtype=np.float32), number)
    with pytest.raises(TypeError, match=r"^k: an integer is needed, got float 2\.5$"):
        fastclip.topk(np.eye(8, dtype=np.float32), np.eye(8, dtype=np.float32), 2.5)


@pytest.mark.parametrize("number", [-(2**70), -1, 2**62, 2**63, 2**64, 2**70])
@pytest.mark.parametrize("case", INTEGERS)
def test_integers_out_of_range(case: str, number: int) -> None:
    if (case, number) in {("iterations", 2**62)} or (case == "dilations" and number > 0):
        return  # hours; see below
    if (case == "seed" and number >= 0) or (case == "ks" and number > 0):
        return  # any is right
    with pytest.raises(ValueError, match=f"^{_name(case)}: .*"):
        INTEGERS[case](number)


def test_neighbours_beyond_the_image_are_its_border() -> None:
    expected = fastclip.refine_masks(IMAGES, MASKS, dilations=[2, 5])
    for far in (6, 40, 2**40, 2**70):
        _equal(fastclip.refine_masks(IMAGES, MASKS, dilations=[2, far]), expected)


@pytest.mark.parametrize("size", [3, None, "45", (1, 2, 3), (2**40, 2**40), (0, 1)])
def test_sizes(size: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^size: "):
        fastclip.pixel_labels(PIXELS, K, size)


@pytest.mark.parametrize("dtype", ["float32", np.float32, float, torch.float64, [torch.float32]])
def test_dtypes(dtype: object) -> None:
    with pytest.raises(TypeError, match=r"^dtype: float32, float16 or bfloat16 of torch"):
        fastclip.similarity(Q, K, dtype=dtype)


@pytest.mark.parametrize("case", ["beta", "t", "background"])
def test_constants_have_no_gradient(case: str) -> None:
    number = torch.tensor(0.5, requires_grad=True)
    with pytest.raises(ValueError, match=rf"^{case}: .* no gradient; pass {case}.detach\(\)"):
        REALS[case](number)
    with torch.no_grad():
        _equal(REALS[case](number), REALS[case](0.5))


@pytest.mark.parametrize("case", ["beta", "scale", "t", "thresholds", "k", "num_groups"])
def test_numbers_inside_compiled_functions(case: str) -> None:
    call = {**REALS, **THRESHOLDS, **INTEGERS}[case]
    compiled = torch.compile(lambda: call(3), fullgraph=True, backend="aot_eager")
    _equal(compiled(), call(3))
