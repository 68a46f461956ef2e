"""The border to C++: wrong arguments are errors that name the operation and the argument."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

import fastclip
from fastclip import _C
from fastclip.engine.devices import BUILT, EMULATED
from fastclip.engine.kernels import run, workspace_bytes

N, V, D, G = 3, 40, 8, 5


def arguments() -> dict[str, Any]:
    """Return those of group_max, in order."""
    keys = fastclip.pack(torch.randn(V, D)).to("cpu")
    return {
        "queries": torch.randn(N, D),
        "keys": keys.rows,
        "screen": [keys.codes, keys.bounds, keys.center],
        "groups": torch.arange(V) % G,
        "values": torch.empty(N, G),
        "indices": torch.empty(N, G, dtype=torch.int64),
        "survivors": torch.empty((), dtype=torch.int64),
    }


WRONG = {
    "a list": ("queries", [[1.0]], "a tensor is needed, got list"),
    "None": ("groups", None, "a tensor is needed, got NoneType"),
    "float64 rows": (
        "queries",
        torch.randn(N, D).double(),
        "other numbers are needed, got float64",
    ),
    "int32": ("groups", torch.zeros(V, dtype=torch.int32), "other numbers are needed, got int32"),
    "uint64": (
        "groups",
        torch.zeros(V, dtype=torch.uint64),
        "other numbers are needed, got uint64",
    ),
    "bool": ("survivors", torch.tensor(True), "other numbers are needed, got bool8"),
    "complex": ("values", torch.empty(N, G, dtype=torch.complex64), "other numbers are needed"),
    "float32 indices": ("indices", torch.empty(N, G), "other numbers are needed"),
    "too few groups": ("groups", torch.zeros(V - 1, dtype=torch.int64), "39 does not fit"),
    "wider keys": ("keys", torch.randn(V, D + 1), "9 does not fit the other arguments, .* have 8"),
    "fewer rows of results": ("values", torch.empty(N - 1, G), "2 does not fit"),
    "other results": ("indices", torch.empty(N, G + 1, dtype=torch.int64), "6 does not fit"),
    "a dimension less": ("values", torch.empty(N * G), "2 dimensions are needed"),
    "a dimension more": ("survivors", torch.zeros(1, dtype=torch.int64), "0 dimensions are needed"),
    "elements apart": (
        "queries",
        torch.randn(N, 2 * D)[:, ::2],
        "elements of a row must be adjacent",
    ),
    "groups apart": ("groups", torch.zeros(V, 2, dtype=torch.int64)[:, 0], "must be contiguous"),
    "results of columns": ("values", torch.empty(G, N).T, "must be contiguous"),
    "another device": (
        "groups",
        torch.zeros(V, dtype=torch.int64, device="meta"),
        "must be on the",
    ),
    "no memory": ("queries", torch.randn(N, D, device="meta"), "must be on the CPU"),
    "part of a screen": ("screen", [torch.empty(0)], "codes, bounds and center are needed"),
    "another screen": ("screen", [torch.empty(0)] * 3, "not the arrays of so many keys"),
}


@pytest.mark.parametrize(("name", "value", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments(name: str, value: Any, message: str) -> None:
    wrong = arguments() | {name: value}
    with pytest.raises(RuntimeError, match=rf"group_max: {name}\S*: .*{message}"):
        _C.group_max(*wrong.values(), 1, False)


def test_counts() -> None:
    with pytest.raises(RuntimeError, match="group_max: too few arguments"):
        _C.group_max(*list(arguments().values())[:-1])
    rows, tags = torch.randn(2 * 6, D), torch.randn(4, D)
    found = torch.empty(2, 4), torch.empty(2, 4, dtype=torch.int64)
    _C.pixel_scores(rows, 6, tags, *found, 1)
    with pytest.raises(RuntimeError, match=r"pixel_scores: pixels\S*: 12 does not fit"):
        _C.pixel_scores(rows, 5, tags, *found, 1)
    codes = torch.empty(63, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="pack: codes: not as many"):
        _C.pack(tags, torch.empty(D), codes, torch.empty(3, 32), 1)
    with pytest.raises(RuntimeError, match=r"pack: bounds\S*: 2 does not fit"):
        _C.pack(tags, torch.empty(D), codes, torch.empty(2, 32), 1)


def test_pairs_are_written_where_there_is_room() -> None:
    pairs = _C.pairs_above(torch.eye(3), torch.eye(3), [], 0.5, False, 1, False)
    keys, scores = torch.empty(3, dtype=torch.int64), torch.empty(3)
    pairs.write(torch.empty(4, dtype=torch.int64), keys, scores)
    assert keys.tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="starts: there are more queries"):
        pairs.write(torch.empty(3, dtype=torch.int64), keys, scores)
    with pytest.raises(RuntimeError, match="keys: there are 3"):
        pairs.write(torch.empty(4, dtype=torch.int64), keys[:2], scores[:2])


class _Described:
    """A tensor by its attributes alone, as older versions of torch have them."""

    def __init__(self, x: torch.Tensor) -> None:
        self.data_ptr, self.stride, self.shape = x.data_ptr, x.stride, x.shape
        self.dtype, self.device = x.dtype, x.device


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_by_their_attributes(dtype: torch.dtype) -> None:
    given = arguments()
    given["queries"], given["keys"] = given["queries"].to(dtype), given["keys"].to(dtype)
    _C.group_max(*given.values(), 1, False)
    expected = given["values"].clone(), given["indices"].clone()
    given["values"].zero_(), given["indices"].zero_()
    described = {
        name: list(map(_Described, x)) if name == "screen" else _Described(x)
        for name, x in given.items()
    }
    _C.group_max(*described.values(), 1, False)
    assert torch.equal(given["values"], expected[0])
    assert torch.equal(given["indices"], expected[1])
    with pytest.raises(RuntimeError, match=r"group_max: groups.*int32"):
        _C.group_max(*(described | {"groups": _Described(torch.zeros(V).int())}).values(), 1, False)


def test_versions_of_torch_without_exchange_api() -> None:
    code = """
import sys, torch
if sys.argv[1] == "without":
    torch.Tensor.__dlpack_c_exchange_api__ = None
import fastclip
torch.manual_seed(0)
queries, keys = torch.randn(3, 8), torch.randn(500, 8)
assert sys.argv[1] == "with" or not fastclip._C.is_plain(keys)
for keys in (keys, fastclip.pack(keys)):
    print(fastclip.topk(queries, keys, 2), fastclip.logsumexp(queries, keys, 2.0))
    print(fastclip.rank(queries, keys, torch.tensor([4, 5, 6])))
"""
    outputs = [
        subprocess.run([sys.executable, "-c", code, api], capture_output=True, check=True).stdout
        for api in ("with", "without")
    ]
    assert outputs[0] == outputs[1] != b""


@pytest.mark.skipif(not BUILT, reason="a build without CUDA")
def test_workspaces_of_what_does_not_exist() -> None:
    given = {
        name: [part.to("meta") for part in x] if name == "screen" else x.to("meta")
        for name, x in arguments().items()
    }
    size = workspace_bytes("group_max", *given.values())
    assert size > 0
    if EMULATED:
        memory = torch.empty(size - 1, dtype=torch.uint8)
        with pytest.raises(RuntimeError, match="group_max: memory: there is not enough"):
            _C.cuda.group_max(*arguments().values(), N, memory, 0)


@pytest.mark.skipif(not EMULATED, reason="a device has no room for so many keys")
def test_too_many_keys_for_a_device() -> None:
    queries, keys = torch.randn(1, 1), torch.randn(1, 1).expand(2**31, 1)
    result = torch.empty(1, 1), torch.empty(1, 1, dtype=torch.int64), torch.tensor(0)
    with pytest.raises(ValueError, match="keys: at most 2147483647 can be searched at a time"):
        run("topk", queries, keys, [], None, *result)
