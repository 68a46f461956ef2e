"""Every public function, and every kind of input that torch, NumPy and others can hand over.

``python zoo.py N`` calls all but the first N and prints what came of each, a line of JSON; before
each, for it may end the process, another line says which one follows.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

import fastclip
from fastclip.metrics import openness

GOOD = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
KEYS = GOOD.flip(0).roll(1, 1)
GROUPS = torch.tensor([0, 1, 0, 1, 2, 2])
PIXELS = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(2))
IMAGES = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(3))
MASKS = torch.rand(2, 2, 5, 4, generator=torch.Generator().manual_seed(4))

# Each array argument of each function: its name, a good value, and the call with another one.
ARGUMENTS: dict[str, tuple[str, torch.Tensor, Callable[[Any], Any]]] = {}


def _add(function: str, name: str, good: torch.Tensor, call: Callable[[Any], Any]) -> None:
    ARGUMENTS[f"{function}({name})"] = name, good, call


def _add_search(function: str, call: Callable[[Any, Any], Any]) -> None:
    _add(function, "queries", GOOD, lambda x: call(x, KEYS))
    _add(function, "keys", GOOD, lambda x: call(KEYS, x))


_add_search("similarity", fastclip.similarity)
_add_search("topk", lambda q, k: fastclip.topk(q, k, 2))
_add_search("rank", lambda q, k: fastclip.rank(q, k, GROUPS))
_add_search("count_above", lambda q, k: fastclip.count_above(q, k, 0.1))
_add_search("pairs_above", lambda q, k: fastclip.pairs_above(q, k, 0.1).to_dense())
_add_search("logsumexp", lambda q, k: fastclip.logsumexp(q, k, 2.0))
_add_search("softmax_topk", lambda q, k: fastclip.softmax_topk(q, k, 2, 2.0))
_add_search("group_max", lambda q, k: fastclip.group_max(q, k, GROUPS, num_groups=3))
_add_search("group_mean", lambda q, k: fastclip.group_mean(q, k, GROUPS, num_groups=3))
_add_search("group_beats", lambda q, k: fastclip.group_beats(q, k, GROUPS, GROUPS, num_groups=3))
_add_search("cache_logits", lambda q, k: fastclip.cache_logits(q, k, GOOD, 2.0))
_add("cache_logits", "values", GOOD, lambda v: fastclip.cache_logits(GOOD, GOOD, v, 2.0))
_add("gaussian_potential", "x", GOOD, fastclip.gaussian_potential)
_add("gaussian_potential", "y", GOOD, lambda y: fastclip.gaussian_potential(GOOD, y))
_add("pack", "keys", GOOD, lambda k: fastclip.topk(GOOD, fastclip.pack(k), 2))
_add("pack without a copy", "keys", GOOD, lambda k: fastclip.pack(k, copy=False).codes)
_add("pixel_scores", "pixels", PIXELS, lambda p: fastclip.pixel_scores(p, GOOD))
_add("pixel_scores", "tags", GOOD, lambda t: fastclip.pixel_scores(PIXELS, t))
_add("pixel_labels", "pixels", PIXELS, lambda p: fastclip.pixel_labels(p, GOOD, (4, 5))[:2])
_add("pixel_labels", "tags", GOOD, lambda t: fastclip.pixel_labels(PIXELS, t, (4, 5))[:2])
_add("refine_masks", "images", IMAGES, lambda x: fastclip.refine_masks(x, MASKS, iterations=1))
_add("refine_masks", "masks", MASKS, lambda x: fastclip.refine_masks(IMAGES, x, iterations=1))
_add("rank", "targets", GROUPS, lambda x: fastclip.rank(GOOD, GOOD, x))
_add("group_max", "groups", GROUPS, lambda x: fastclip.group_max(GOOD, GOOD, x))
_add("group_mean", "groups", GROUPS, lambda x: fastclip.group_mean(GOOD, GOOD, x))
_add("group_beats", "groups", GROUPS, lambda x: fastclip.group_beats(GOOD, GOOD, x, GROUPS))
_add("group_beats", "targets", GROUPS, lambda x: fastclip.group_beats(GOOD, GOOD, GROUPS, x))
_add("count_above", "thresholds", GOOD[0, :6], lambda x: fastclip.count_above(GOOD, GOOD, x))
_add("logsumexp", "scale", GOOD[0, :1].abs(), lambda x: fastclip.logsumexp(GOOD, GOOD, x))
_add(
    "retrieval", "image_features", GOOD, lambda x: fastclip.metrics.retrieval(x, GOOD).image_to_text
)
_add(
    "retrieval", "text_features", GOOD, lambda x: fastclip.metrics.retrieval(GOOD, x).image_to_text
)
_add("uniformity", "features", GOOD, fastclip.metrics.uniformity)
_add(
    "retrieval",
    "image_of_text",
    torch.arange(6),
    lambda x: fastclip.metrics.retrieval(GOOD, GOOD, x).image_to_text,
)

_LABELS, _CLASSES = torch.tensor([0, 1, 2, 0, 1, 2]), KEYS[:3]
_METRICS: dict[str, Callable[..., Any]] = {
    "alignment": fastclip.metrics.alignment,
    "margins": fastclip.metrics.margins,
    "accuracy_by_size": lambda x, labels, classes: openness.accuracy_by_size(
        x, labels, classes, GOOD, [1, 4]
    ),
    "vocabulary_expansion": lambda x, labels, classes: (
        openness.vocabulary_expansion(x, labels, classes, torch.arange(3)).group_acc_e
    ),
}


def _add_metric(function: str, call: Callable[..., Any]) -> None:
    classes = "text_features" if function == "alignment" else "class_features"
    arguments = {"image_features": GOOD, "labels": _LABELS, classes: _CLASSES}
    for name, good in arguments.items():
        _add(function, name, good, lambda x, name=name: call(*{**arguments, name: x}.values()))


for _function, _call in _METRICS.items():
    _add_metric(_function, _call)
_add("modality_gap", "image_features", GOOD, lambda x: fastclip.metrics.modality_gap(x, KEYS))


OUT = "out", torch.zeros(6, 6), lambda out: fastclip.similarity(GOOD, KEYS, out=out)


class OnlyDLPack:
    """Another library's array. By default of the time before versions, as those of JAX."""

    def __init__(self, x: Any, versioned: bool = False, error: Exception | None = None) -> None:
        self.x, self.versioned, self.error = x, versioned, error

    def __dlpack__(self, **options: Any) -> Any:
        if self.error:
            raise self.error
        return self.x.__dlpack__(max_version=(1, 0) if self.versioned else None)

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


class OnlyArray:
    """As images of PIL, datasets of h5py."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        return self.x


class DataFrame(OnlyArray):
    """As those of pandas and polars."""

    def to_numpy(self, *args: Any) -> np.ndarray:
        return self.x


class Subclass(torch.Tensor):
    pass


class Wrapper(torch.Tensor):
    """A tensor that stands for another one and has no memory: as DTensor or FakeTensor."""

    @staticmethod
    def __new__(cls, x: torch.Tensor) -> Wrapper:
        return torch.Tensor._make_wrapper_subclass(cls, x.shape, dtype=x.dtype)

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        from torch.utils._pytree import tree_map_only

        args, kwargs = tree_map_only(cls, lambda t: t.x, (args, kwargs or {}))
        return function(*args, **kwargs)


def _conjugate_imaginary(x: torch.Tensor) -> torch.Tensor:
    return torch.complex(torch.zeros_like(x), -x).conj().imag


def _with_storage(x: torch.Tensor, size: int, offset: int = 0) -> torch.Tensor:
    flat = torch.empty(x.numel() + offset, dtype=x.dtype)
    y = flat[offset:].view(x.shape).copy_(x)
    y.untyped_storage().resize_(size)
    return y


def _backwards(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x[::-1])[::-1]


def _in_file(x: np.ndarray, mode: str) -> np.memmap:
    with tempfile.NamedTemporaryFile(suffix=".bin", delete=False) as file:
        file.write(x.tobytes())
    try:
        return np.memmap(file.name, x.dtype, mode, shape=x.shape)
    finally:
        os.unlink(file.name)


def _unaligned(x: np.ndarray) -> np.ndarray:
    memory = np.zeros(x.nbytes + 1, np.uint8)
    memory[1:] = np.frombuffer(x.tobytes(), np.uint8)
    return np.frombuffer(memory.data, x.dtype, x.size, offset=1).reshape(x.shape)


def _fake(x: torch.Tensor) -> torch.Tensor:
    return FakeTensorMode(allow_non_fake_inputs=True).from_tensor(x)


def _dtensor(x: torch.Tensor) -> torch.Tensor:
    from torch import distributed
    from torch.distributed.tensor import Replicate, distribute_tensor, init_device_mesh

    if not distributed.is_initialized():
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    return distribute_tensor(x, init_device_mesh("cpu", (1,)), [Replicate()])


def _inference(x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return x.clone()


def _record_field(x: np.ndarray) -> np.ndarray:
    records = np.zeros(x.shape, np.dtype([("flag", "u1"), ("x", x.dtype)]))
    records["x"] = x
    return records["x"]


def _pyarrow(make: Callable[[Any, np.ndarray], Any]) -> Callable[[torch.Tensor], Any]:
    def call(x: torch.Tensor) -> Any:
        import pyarrow

        return make(pyarrow, x.numpy())

    return call


def _jax(make: Callable[[Any, np.ndarray], Any]) -> Callable[[torch.Tensor], Any]:
    def call(x: torch.Tensor) -> Any:
        import jax

        return make(jax, x.numpy())

    return call


def _tracer(jax: Any, x: np.ndarray) -> Any:
    found: list[Any] = []
    jax.jit(lambda y: found.append(y) or y)(x)
    return found[0]


def _pandas(x: torch.Tensor) -> Any:
    import pandas

    return pandas.DataFrame(x.numpy()) if x.ndim == 2 else pandas.Series(x.numpy().flatten())


# Kinds of which the answer is that of the plain tensor.
RIGHT: dict[str, Callable[[torch.Tensor], Any]] = {
    "plain": lambda x: x.clone(),
    "every second row": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "transposed": lambda x: x.T.clone().T if x.ndim == 2 else x.clone(),
    "negated view": lambda x: torch._neg_view(-x),
    "imaginary part of a conjugate": lambda x: (
        _conjugate_imaginary(x) if x.is_floating_point() else x
    ),
    "inference": _inference,
    "subclass": lambda x: x.clone().as_subclass(Subclass),
    "parameter": lambda x: torch.nn.Parameter(x.clone(), requires_grad=False),
    "copied on write": lambda x: torch._lazy_clone(x),
    "storage larger than needed": lambda x: _with_storage(x, 4096),
    "NumPy": lambda x: x.numpy().copy(),
    "NumPy, read-only": lambda x: np.frombuffer(x.numpy().tobytes(), x.numpy().dtype).reshape(
        x.shape
    ),
    "NumPy, negative stride": lambda x: _backwards(x.numpy()),
    "NumPy, axis of length 1 with a negative stride": lambda x: x.numpy()[None][::-1][0],
    "NumPy, Fortran": lambda x: np.asfortranarray(x.numpy()),
    "NumPy, field of records": lambda x: _record_field(x.numpy()),
    "NumPy, unaligned": lambda x: _unaligned(x.numpy()),
    "memory map": lambda x: _in_file(x.numpy(), "r"),
    "memory map, writable": lambda x: _in_file(x.numpy(), "r+"),
    "DLPack": lambda x: OnlyDLPack(x.clone()) if x.numel() > 1 else None,
    "DLPack, versioned": lambda x: OnlyDLPack(x.clone(), versioned=True) if x.numel() > 1 else None,
    "DLPack, read-only": lambda x: (
        OnlyDLPack(_in_file(x.numpy(), "r"), versioned=True) if x.numel() > 1 else None
    ),
    "pyarrow tensor": _pyarrow(lambda pa, x: pa.Tensor.from_numpy(x) if x.size > 1 else None),
    "JAX": _jax(lambda jax, x: jax.numpy.asarray(x, dtype=x.dtype) if x.size > 1 else None),
}

# Kinds that are refused in words that begin with the argument's name.
REFUSED: dict[str, Callable[[torch.Tensor], Any]] = {
    "freed storage": lambda x: _with_storage(x, 0),
    "freed storage, view with an offset": lambda x: _with_storage(x, 0, offset=64),
    "storage too small": lambda x: _with_storage(x, x.element_size() * x.numel() - 1),
    "storage too small, view with an offset": lambda x: _with_storage(
        x, x.element_size() * x.numel(), offset=2
    ),
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "nested": lambda x: torch.nested.nested_tensor([x, x]),
    "nested, jagged": lambda x: torch.nested.nested_tensor([x, x], layout=torch.jagged),
    "quantized": lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
    "masked tensor": lambda x: torch.masked.masked_tensor(x, x > 0),
    "DTensor": _dtensor,
    "complex": lambda x: x.to(torch.complex64),
    "float64": lambda x: x.double()[None].repeat(1, *[1] * x.ndim)[0] if x.numel() > 1 else None,
    "bool": lambda x: x > 0,
    "NumPy float64": lambda x: x.double().numpy() if x.numel() > 1 else None,
    "NumPy, masked": lambda x: np.ma.masked_array(x.numpy(), x.numpy() > 0),
    "NumPy, masked, no mask": lambda x: np.ma.masked_array(x.numpy()),
    "NumPy, big-endian": lambda x: (  # integers are converted
        x.numpy().astype(x.numpy().dtype.newbyteorder(">")) if x.is_floating_point() else None
    ),
    "NumPy, strings": lambda x: x.numpy().astype(str),
    "NumPy, objects": lambda x: x.numpy().astype(object),
    "NumPy, long double": lambda x: x.numpy().astype(np.longdouble) if x.numel() > 1 else None,
    "NumPy, scalar": lambda x: x.numpy().flat[0] if x.ndim > 1 else None,
    "0-dim": lambda x: x.flatten()[0] if x.numel() > 6 else None,
    "list": lambda x: x.tolist(),
    "tuple": lambda x: tuple(x.tolist()),
    "None": lambda x: None if x is GOOD or x.numel() != 1 else "x",
    "array-like": lambda x: OnlyArray(x.numpy()),
    "DataFrame": lambda x: DataFrame(x.numpy()),
    "DLPack that fails": lambda x: OnlyDLPack(x, error=AttributeError("a tracer has no memory")),
    **(
        {"DLPack, negative stride": lambda x: OnlyDLPack(_backwards(x.numpy()), versioned=True)}
        if torch.torch_version.TorchVersion(torch.__version__) >= (2, 12)
        else {}  # torch 2.11 ends the process
    ),
    "pyarrow list array": _pyarrow(
        lambda pa, x: (
            pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 2)
            if x.size % 2 == 0
            else pa.array([[1.0]])
        )
    ),
    "pyarrow chunks": _pyarrow(lambda pa, x: pa.chunked_array([pa.array(x.ravel())])),
    "JAX tracer": _jax(_tracer),
    "pandas": _pandas,
}

# Kinds that have no memory of their own: torch's dispatcher takes them, or they are refused.
SURVIVED: dict[str, Callable[[torch.Tensor], Any]] = {
    "zeros without memory": lambda x: torch._efficientzerotensor(x.shape, dtype=x.dtype),
    "fake": _fake,
    "functional": lambda x: torch._to_functional_tensor(x),
    "wrapper": Wrapper,
}


def _memory(rows: int = 6, columns: int = 6) -> np.ndarray:
    return np.zeros((rows, columns), np.float32)


# What similarity refuses to write to.
WRONG_OUT: dict[str, Callable[[], Any]] = {
    "freed": lambda: _with_storage(torch.zeros(6, 6), 0),
    "too small": lambda: _with_storage(torch.zeros(6, 6), 100),
    "negated": lambda: torch._neg_view(torch.zeros(6, 6)),
    "imaginary part of a conjugate": lambda: _conjugate_imaginary(torch.zeros(6, 6)),
    "zeros without memory": lambda: torch._efficientzerotensor((6, 6)),
    "gradient": lambda: torch.zeros(6, 6, requires_grad=True),
    "expanded": lambda: torch.zeros(1, 6).expand(6, 6),
    "expanded to one column": lambda: torch.zeros(6, 1).expand(6, 6),
    "overlapping rows": lambda: torch.zeros(36).as_strided((6, 6), (3, 1)),
    "meta": lambda: torch.zeros(6, 6, device="meta"),
    "sparse": lambda: torch.zeros(6, 6).to_sparse(),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(6, 6)]),
    "masked tensor": lambda: torch.masked.masked_tensor(torch.zeros(6, 6), torch.ones(6, 6) > 0),
    "float64": lambda: torch.zeros(6, 6).double(),
    "NumPy, masked": lambda: np.ma.masked_array(_memory()),
    "NumPy, read-only": lambda: np.broadcast_to(np.float32(0), (6, 6)),
    "NumPy, negative stride": lambda: _memory()[::-1],
    "NumPy, unaligned": lambda: _unaligned(_memory()),
    "NumPy, big-endian": lambda: _memory().astype(">f4"),
    "memory map, read-only": lambda: _in_file(_memory(), "r"),
    "DLPack without versions": lambda: OnlyDLPack(torch.zeros(6, 6)),
    "DLPack, read-only": lambda: OnlyDLPack(_in_file(_memory(), "r"), versioned=True),
    "list": lambda: _memory().tolist(),
    "JAX": lambda: _jax(lambda jax, x: jax.numpy.asarray(x))(torch.zeros(6, 6)),
}


def _packed_then_freed(x: torch.Tensor) -> fastclip.PackedKeys:
    keys = x.clone()
    packed = fastclip.pack(keys, copy=False)
    keys.untyped_storage().resize_(0)
    return packed


NOT_INSTALLED, LEFT_OUT = "not installed", "left out"
DEPENDS_ON_NUMBERS = "needs numbers that fake tensors lack"


def cases() -> Iterator[tuple[str, str, Callable[[torch.Tensor], Any]]]:
    for kind, make in {**RIGHT, **REFUSED, **SURVIVED}.items():
        for argument in ARGUMENTS:
            yield argument, kind, make
    for kind, make_out in WRONG_OUT.items():
        yield "similarity(out)", kind, lambda _, make=make_out: make()
    yield "topk(keys)", "packed, then freed", _packed_then_freed


def outcome(argument: str, kind: str, make: Callable[[torch.Tensor], Any]) -> str:
    """Return "right", "refused", or what is wrong."""
    name, good, call = ARGUMENTS.get(argument, OUT)
    try:
        x = make(good)
    except ImportError:
        return NOT_INSTALLED
    if x is None:
        return LEFT_OUT
    try:
        expected = call(torch.zeros_like(good) if kind.startswith("zeros") else good.clone())
    except ValueError as error:
        expected = str(error)
    try:
        found = call(x)
    except (TypeError, ValueError) as error:
        if str(error).startswith(f"{name}: "):
            return "refused"
        return "raised " + "".join(traceback.format_exception_only(error)).strip()[:300]
    except (DataDependentOutputException, DynamicOutputShapeException):
        return DEPENDS_ON_NUMBERS
    except Exception as error:
        return f"raised {type(error).__name__}: {str(error)[:300]}"
    return "right" if same(found, expected) else f"wrong: {found} instead of {expected}"


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        if type(found).__name__ == "FakeTensor":
            return found.shape == expected.shape and found.dtype == expected.dtype
        if torch._is_functional_tensor(found):
            torch._sync(found)
            found = torch._from_functional_tensor(found)
        return torch.equal(found, expected)
    if isinstance(expected, tuple):
        return all(same(f, e) for f, e in zip(found, expected, strict=True))
    return bool(found == expected)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for argument, kind, make in islice(cases(), int(sys.argv[1]), None):
        print(json.dumps(["begins", argument, kind]), flush=True)
        print(json.dumps(["ends", argument, kind, outcome(argument, kind, make)]), flush=True)
