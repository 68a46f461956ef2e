"""Keys coded for the screen: once for many calls, or on the way of one."""

from collections.abc import Iterator

import torch

from fastclip import _C
from fastclip.engine.checks import (
    Array,
    as_rows,
    check_finite,
    not_finite,
    with_adjacent_elements,
)
from fastclip.engine.devices import on_cuda
from fastclip.engine.kernels import run
from fastclip.engine.packed import PackedKeys
from fastclip.engine.tensors import check_memory
from fastclip.engine.tuning import TUNING


def pack(keys: Array, *, copy: bool = True) -> PackedKeys:
    """Prepare keys for many calls: check them, and code them in one byte a number.

    The answers of every function are the same to the bit for packed keys and for the keys
    themselves; searches are faster. Packed keys are a constant: no gradient flows into them.

    Parameters
    ----------
    keys : tensor or array [V, d], float32, float16 or bfloat16
        Any row stride.
    copy : bool, default True
        Keep a copy of ``keys``. With False the packed keys refer to the memory of ``keys`` (a
        memory map stays on disk), which must not be changed as long as they are used.

    Returns
    -------
    PackedKeys
        Holds V (w + 12) bytes, w being d rounded up to a multiple of 64, and ``keys``.

    Raises
    ------
    TypeError
        ``keys`` is no array, has another dtype, or no memory of its own, as inside
        ``torch.compile`` and the transforms of ``torch.func``.
    ValueError
        ``keys`` is not 2-D, is on a device without kernels, or holds NaN or infinity.

    Examples
    --------
    >>> import fastclip
    >>> keys = fastclip.pack(fastclip.data.load_sample("coco-captions").features)
    >>> keys
    PackedKeys(500 x 512)
    >>> images = fastclip.data.load_sample("coco-images").features
    >>> fastclip.topk(images[:2], keys, k=1).indices
    tensor([[ 0],
            [53]])
    """
    rows = as_rows("keys", keys).detach()
    check_memory("keys", rows)
    rows = with_adjacent_elements(rows)
    encoded = encode(rows)
    if copy:
        rows = rows.clone(memory_format=torch.contiguous_format)
    return PackedKeys(rows, *encoded)


def encode(rows: torch.Tensor, first: int = 0) -> list[torch.Tensor]:
    """Check rows, numbered from ``first``, and return codes, bounds and center of PackedKeys."""
    codes, bounds, center = empty_screen(rows)
    if on_cuda(rows):
        check_finite("keys", rows, first)
        if len(rows):
            center = _center(rows)
        run("pack", rows, center, codes, bounds)
    else:
        row = run("pack", rows, center, codes, bounds)
        if row >= 0:
            raise not_finite("keys", first + row)
    return [codes, bounds, center]


def empty_screen(rows: torch.Tensor) -> list[torch.Tensor]:
    """Allocate codes, bounds and center of PackedKeys, the last one filled with zeros."""
    count, width = rows.shape
    panels = -(-count // _C.panel)
    steps = _C.code_width(width) // 64
    cores = (panels, steps, 4, 4, 8, 16) if on_cuda(rows) else (panels, steps * 16, _C.panel, 4)
    return [
        rows.new_empty(cores, dtype=torch.uint8),
        rows.new_empty((3, panels * _C.panel), dtype=torch.float32),
        rows.new_zeros(width, dtype=torch.float32),
    ]


def _center(rows: torch.Tensor) -> torch.Tensor:
    """Return a sample's mean: any vector would do, and it is nearly as good as the mean of all."""
    count = min(len(rows), _C.center_sample)
    sample = rows[torch.arange(count, device=rows.device) * len(rows) // count]
    return sample.double().mean(0).float()


def worth_packing(queries: torch.Tensor, keys: torch.Tensor, k: int = 0) -> bool:
    """Whether unpacked keys are better packed on the way, to be screened; ``k`` is of top-k."""
    least = TUNING.pack_from_queries, TUNING.pack_from_keys
    if on_cuda(keys):
        some = len(queries) >= min(TUNING.device_pack_from_queries, least[0])
        return some and len(queries) * len(keys) >= least[0] * least[1]
    many = len(queries) >= least[0] and len(keys) >= least[1]
    part = min(len(keys), TUNING.pack_keys)
    worth = TUNING.always_screen or _C.worth_codes(len(queries), part, k)
    return many and _C.has_screen() and worth


def parts_to_pack(keys: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield parts of the keys that are packed one at a time, each with its first row's number."""
    size = TUNING.device_pack_keys if on_cuda(keys) else TUNING.pack_keys
    for begin in range(0, len(keys), size):
        yield begin, keys[begin : begin + size]
