"""Wrong arguments: each function names the argument, what it was and what is allowed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference
import torch

import fastclip
from fastclip import _C
from fastclip.engine.checks import check_finite, try_plain
from fastclip.engine.devices import EMULATED

pytestmark = pytest.mark.once

FUNCTIONS = {
    "pack": lambda queries, keys: fastclip.pack(keys),
    "similarity": fastclip.similarity,
    "topk": lambda queries, keys: fastclip.topk(queries, keys, 1),
    "rank": lambda queries, keys: fastclip.rank(queries, keys, torch.zeros(5, dtype=torch.int64)),
    "group_max": lambda queries, keys: fastclip.group_max(queries, keys, torch.arange(5)),
    "group_beats": lambda queries, keys: fastclip.group_beats(
        queries, keys, torch.arange(5), torch.zeros(5, dtype=torch.int64)
    ),
    "pairs_above": lambda queries, keys: fastclip.pairs_above(queries, keys, 0.5),
    "count_above": lambda queries, keys: fastclip.count_above(queries, keys, 0.5),
    "logsumexp": lambda queries, keys: fastclip.logsumexp(queries, keys, 100.0),
    "cache_logits": lambda queries, keys: fastclip.cache_logits(
        queries, keys, torch.randn(5, 3), 5.5
    ),
    "group_mean": lambda queries, keys: fastclip.group_mean(
        queries, keys, torch.zeros(5, dtype=torch.int64)
    ),
}

GOOD = torch.randn(5, 8)

WRONG = {
    "list": ([[1.0]], TypeError, "tensor, NumPy array or DLPack array is needed, got list"),
    "vector": (
        GOOD[0],
        ValueError,
        r"2 dimensions \[rows, d\] are needed, got shape \(8,\); pass \w+\[None\] for one row",
    ),
    "3-D": (GOOD[None], ValueError, r"got shape \(1, 5, 8\)"),
    "float64": (GOOD.double(), TypeError, "float32, float16 or bfloat16 is allowed, got float64"),
    "int64": (GOOD.long(), TypeError, "got int64"),
    "numpy float64": (
        GOOD.double().numpy(),
        TypeError,
        r"got float64; pass \w+.astype\(np.float32\)",
    ),
    "numpy big-endian": (GOOD.numpy().astype(">f4"), TypeError, "got >f4"),
    "numpy strings": (np.array([["a"]]), TypeError, "got <U1"),
    "sparse": (GOOD.to_sparse(), TypeError, "a dense tensor is needed, got layout"),
    "other device": (GOOD.to("meta"), ValueError, "is on device 'meta'"),
}


@pytest.mark.parametrize(("value", "error", "message"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("argument", ["queries", "keys"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_wrong_arrays(
    function: str, argument: str, value: object, error: type[Exception], message: str
) -> None:
    if (function, argument) == ("pack", "queries"):
        return
    arguments = {"queries": GOOD, "keys": GOOD, argument: value}
    with pytest.raises(error, match=f"^{argument}: .*{message}"):
        FUNCTIONS[function](**arguments)


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 100])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_not_finite(isa: str, function: str, width: int, dtype: torch.dtype, number: float) -> None:
    for argument in ("queries", "keys"):
        if (function, argument) == ("pack", "queries"):
            continue
        for row, column in [(0, 0), (3, width - 1), (4, width // 2)]:
            bad = torch.randn(5, width).to(dtype)
            bad[row, column] = number
            arguments = {"queries": torch.randn(5, width), "keys": torch.randn(5, width)}
            with pytest.raises(ValueError, match=f"^{argument}: row {row} holds NaN or infinity"):
                FUNCTIONS[function](**{**arguments, argument: bad})


def test_the_first_of_many_rows_is_named(isa: str) -> None:
    keys = torch.randn(20_000, 64)  # several tasks
    keys[[7001, 7002, 19_999], 5] = float("nan")
    with pytest.raises(ValueError, match="keys: row 7001 holds"):
        fastclip.pack(keys)


@pytest.mark.parametrize("queries", [1, 2, 5, 300])
def test_every_way_to_the_best_keys_checks_them(isa: str, queries: int) -> None:
    keys = torch.randn(20_000, 64)  # several tasks, parts and packed keys on the way
    keys[[7001, 7002, 19_999], 5] = float("inf")
    with pytest.raises(ValueError, match="keys: row 7001 holds"):
        fastclip.topk(torch.randn(queries, 64), keys, 3)
    with pytest.raises(ValueError, match="keys: row 7001 holds"):
        fastclip.count_above(torch.randn(queries, 64), keys, 3.0)


def test_the_largest_finite_numbers_pass(isa: str) -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        x = torch.full((3, 17), torch.finfo(dtype).max, dtype=dtype)
        assert torch.equal(fastclip.pack(x).rows, x)


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f != "pack"])
@pytest.mark.parametrize("packed", [False, True])
def test_widths_differ(function: str, packed: bool) -> None:
    keys = torch.randn(5, 9)
    with pytest.raises(ValueError, match=r"keys: rows must be as long .* got 9 and 8"):
        FUNCTIONS[function](GOOD, fastclip.pack(keys) if packed else keys)


@pytest.mark.parametrize("k", [0, -1, 6, 2**40])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"k: must be from 1 to the number of keys 5, got {k}"):
        fastclip.topk(GOOD, GOOD, k)


def test_k_is_an_integer() -> None:
    with pytest.raises(TypeError):
        fastclip.topk(GOOD, GOOD, 1.0)
    assert fastclip.topk(GOOD, GOOD, np.int32(2)).values.shape == (5, 2)


class OnlyDLPack:
    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __dlpack__(self, **options: object) -> object:
        return self.x.__dlpack__()

    def __dlpack_device__(self) -> object:
        return self.x.__dlpack_device__()


ARRAYS = {
    "numpy": lambda x: x.numpy(),
    "numpy float16": lambda x: x.half().numpy(),
    "numpy read-only": lambda x: np.frombuffer(x.numpy().tobytes(), np.float32).reshape(x.shape),
    "numpy backwards": lambda x: x.numpy()[::-1, ::-1],
    "numpy Fortran": lambda x: np.asfortranarray(x.numpy()),
    "numpy field of records": lambda x: _record_field(x.numpy()),
    "DLPack": OnlyDLPack,
    "parameter": torch.nn.Parameter,
}


def _record_field(x: np.ndarray) -> np.ndarray:
    records = np.zeros(x.shape, np.dtype([("flag", "u1"), ("x", "f4")]))
    records["x"] = x
    return records["x"]


@pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays_of_other_kinds(make) -> None:
    array = make(GOOD.clone())
    plain = array.x if isinstance(array, OnlyDLPack) else array
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fastclip.similarity(array, array)
    assert reference.same_bits(result.detach(), reference.similarity(plain, plain))


PIXEL_FUNCTIONS = {
    "pixel_scores": fastclip.pixel_scores,
    "pixel_labels": lambda pixels, tags: fastclip.pixel_labels(pixels, tags, (4, 4)),
}

PIXELS = torch.randn(2, 8, 3, 4)

WRONG_PIXELS = {
    "list": ([[1.0]], TypeError, "tensor, NumPy array or DLPack array is needed, got list"),
    "3-D": (
        PIXELS[0],
        ValueError,
        r"4 dimensions \[B, d, h, w\] .*; pass pixels\[None\]",
    ),
    "float64": (PIXELS.double(), TypeError, "float32, float16 or bfloat16 is allowed, got float64"),
    "other device": (PIXELS.to("meta"), ValueError, "is on device 'meta'"),
    "no pixels": (PIXELS[:, :, :0], ValueError, "at least one pixel per image is needed"),
}


@pytest.mark.parametrize(
    ("value", "error", "message"), WRONG_PIXELS.values(), ids=WRONG_PIXELS.keys()
)
@pytest.mark.parametrize("function", PIXEL_FUNCTIONS)
def test_wrong_pixels(function: str, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^pixels: .*{message}"):
        PIXEL_FUNCTIONS[function](value, GOOD)


@pytest.mark.parametrize(("value", "error", "message"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("function", PIXEL_FUNCTIONS)
def test_wrong_tags(function: str, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^tags: .*{message}"):
        PIXEL_FUNCTIONS[function](PIXELS, value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("function", PIXEL_FUNCTIONS)
def test_widths_of_pixels_and_tags_differ(function: str, packed: bool) -> None:
    tags = torch.randn(5, 9)
    with pytest.raises(ValueError, match=r"tags: rows must be as long as .* d = 8 .* got 9"):
        PIXEL_FUNCTIONS[function](PIXELS, fastclip.pack(tags) if packed else tags)


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("function", PIXEL_FUNCTIONS)
def test_pixels_not_finite(
    isa: str, function: str, layout: torch.memory_format, number: float
) -> None:
    bad = PIXELS.clone(memory_format=layout)
    bad[1, 5, 2, 1] = number
    with pytest.raises(ValueError, match="pixels: image 1 holds NaN or infinity at y = 2, x = 1"):
        PIXEL_FUNCTIONS[function](bad, GOOD)
    tags = GOOD.clone()
    tags[3, 7] = number
    with pytest.raises(ValueError, match="tags: row 3 holds NaN or infinity"):
        PIXEL_FUNCTIONS[function](PIXELS, tags)


def test_only_plain_rows_go_around_the_checks() -> None:
    q, k = torch.randn(2, 8), torch.randn(3, 8)
    assert try_plain() != EMULATED
    if getattr(torch.Tensor, "__dlpack_c_exchange_api__", None) is None:
        assert not _C.is_plain(k)
        return
    found = _C.plain_topk(q, k[::2], (), 1, 256, 8192, False, 1)
    assert found is not None
    assert found[0].shape == (2, 1)
    for other in (
        k.numpy(),
        k.double(),
        k[0],
        k[:, ::2],
        k[:, :7],
        k[:0],
        k.clone().requires_grad_(),
        torch.nn.Parameter(k),
        k.to_sparse(),
        k.to("meta"),
        None,
    ):
        assert _C.plain_logsumexp(q, other, 1.0, True, 1) is None
        assert _C.plain_topk(q, other, (), 1, 256, 8192, False, 1) is None
    for k_out_of_range in (0, -1, 4, 2**63, -(2**80)):
        assert _C.plain_topk(q, k, (), k_out_of_range, 256, 8192, False, 1) is None


def test_defaults_of_torch_change_nothing() -> None:
    """As after ``torch.set_default_device("cuda")`` and ``torch.set_default_dtype``."""
    x, y = torch.randn(30, 8), torch.randn(400, 8)
    targets, groups = torch.arange(30), torch.arange(400) % 7
    values, limits = torch.randn(400, 3), torch.full((30,), 0.5)
    pixels, image, masks = torch.randn(2, 8, 3, 4), torch.rand(1, 3, 6, 7), torch.rand(1, 2, 6, 7)
    packed = fastclip.pack(y)

    def call() -> list[object]:
        found: list[object] = [
            fastclip.pack(y).codes,
            fastclip.refine_masks(image, masks),
            fastclip.gaussian_potential(y),
            fastclip.pixel_scores(pixels, y),
            fastclip.pixel_labels(pixels, y, (6, 8), k=2, background=0.1),
        ]
        for keys in (y, packed):
            csr = fastclip.pairs_above(x, keys, 0.5)
            found += [
                csr.crow_indices(), csr.col_indices(), csr.values(),
                fastclip.similarity(x, keys), fastclip.topk(x, keys, 5, return_survivors=True),
                fastclip.rank(x, keys, targets), fastclip.count_above(x, keys, 0.5, per="query"),
                fastclip.count_above(x, keys, limits), fastclip.logsumexp(x, keys, 20.0),
                fastclip.group_max(x, keys, groups), fastclip.group_mean(x, keys, groups),
                fastclip.group_beats(x, keys, groups, targets % 7),
                fastclip.cache_logits(x, keys, values, 3.0),
            ]  # fmt: skip
        return found

    expected = call()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = call()
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_modes_of_torch_see_the_operators() -> None:
    """What looks at operators, such as make_fx and vmap, must not get a copy of one answer."""
    from torch.fx.experimental.proxy_tensor import make_fx

    q, k = torch.randn(4, 8), torch.randn(9, 8)
    other = torch.randn(4, 8)

    def best(q: torch.Tensor) -> torch.Tensor:
        return fastclip.topk(q, k, 2).values

    def sums(q: torch.Tensor) -> torch.Tensor:
        return fastclip.logsumexp(q, k, 9.0)

    for function in (best, sums):
        torch.testing.assert_close(make_fx(function)(q)(other), function(other), rtol=0, atol=0)
    both = torch.stack([q, other])
    torch.testing.assert_close(torch.vmap(sums)(both), torch.stack([sums(q), sums(other)]))
    torch.testing.assert_close(torch.vmap(best)(both), torch.stack([best(q), best(other)]))


def test_numbers_between_the_elements_of_rows_are_not_looked_at() -> None:
    apart = torch.full((6, 8), torch.nan)
    apart[:, ::2] = 1
    check_finite("x", apart[:, ::2])
    apart[4, 2] = torch.nan
    with pytest.raises(ValueError, match="x: row 4 holds NaN or infinity"):
        check_finite("x", apart[:, ::2])


def test_keys_as_columns_are_told_to_be_rows() -> None:
    with pytest.raises(ValueError, match=r"^keys: .* got 4 and 8; pass keys\.T, whose rows"):
        fastclip.topk(GOOD, torch.randn(8, 4), 1)
