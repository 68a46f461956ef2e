"""Keys prepared once for many calls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fastclip import _C
from fastclip.ops._arguments import (
    Array,
    as_rows,
    find_nonfinite,
    matrix,
    not_finite,
    with_adjacent_elements,
)
from fastclip.ops._device import check_device, on_cuda, stream_of
from fastclip.ops._packed_file import read_packed, write_packed
from fastclip.ops._tensors import check_memory

ENCODING = 1
"""What codes and bounds mean: rotation and its seed, centring, rounding, layout (pack.cpp and
screen.cpp of csrc/cpu). Each change takes the next number, so that older files are refused."""


@dataclass(frozen=True, eq=False)
class PackedKeys:
    """Keys with the codes that searches screen them by. Made by :func:`pack`.

    Attributes
    ----------
    rows : Tensor [V, d] float32, float16 or bfloat16
        The keys themselves, all finite; not to be written to.
    codes : Tensor uint8 [P, w / 4, 32, 4], on CUDA devices [P, w / 64, 4, 4, 8, 16]
        Centred, rotated and quantised keys: P = ceil(V / 32) panels of 32; w is d rounded up to a
        multiple of 64.
    bounds : Tensor [3, 32 ceil(V / 32)] float32
        Scale, length of the quantisation error and length of each centred key.
    center : Tensor [d] float32
        What the keys were centred on.
    """

    rows: torch.Tensor
    codes: torch.Tensor
    bounds: torch.Tensor
    center: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(V, d)."""
        return self.rows.shape[0], self.rows.shape[1]

    def __len__(self) -> int:
        return self.rows.shape[0]

    def __repr__(self) -> str:
        return f"PackedKeys({self.shape[0]} x {self.shape[1]})"

    def to(self, device: torch.device | str | int) -> PackedKeys:
        """Return the packed keys on ``device``; these themselves if they are there.

        Raises
        ------
        ValueError
            This build of fastclip has no kernels for the device.

        Examples
        --------
        >>> import torch, fastclip
        >>> keys = fastclip.pack(torch.randn(100, 64))
        >>> keys.to("cpu") is keys
        True
        """
        center = self.center.to(device)
        check_device("keys", center)
        if center.device == self.rows.device:
            return self
        codes = as_core_matrices(self.codes) if on_cuda(center) else as_panels(self.codes)
        return PackedKeys(
            self.rows.to(center.device),
            codes.to(center.device),
            self.bounds.to(center.device),
            center,
        )

    def save(self, path: str | os.PathLike[str], *, rows: bool = True) -> None:
        """Write a safetensors file for :meth:`load`, all of it or nothing.

        Parameters
        ----------
        path : path
            Ends in ``.safetensors``; an existing file is replaced.
        rows : bool, default True
            Include the keys themselves; `fastclip.data.read_features` then reads these from the
            file. False leaves them out where they are kept elsewhere: V (w + 12) bytes remain, w
            being d rounded up to a multiple of 64.

        Raises
        ------
        ValueError
            Another suffix.
        OSError
            The file cannot be written.
        """
        here = self.to("cpu")
        screen = [as_panels(here.codes), here.bounds, here.center]
        write_packed(Path(path), here.rows, screen, ENCODING, rows)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, rows: Array | None = None) -> PackedKeys:
        """Return the packed keys of a file that :meth:`save` wrote, memory-mapped.

        Only the header is read; the rest is read from disk when a search first needs it, and
        trusted. The file may be replaced meanwhile, but not written into.

        Parameters
        ----------
        path : path
        rows : tensor or array [V, d], optional
            The keys that were packed, in their dtype, for a file without rows. They are referred
            to, not copied (a memory map stays on disk). A checksum of up to 64 rows, evenly
            spaced, must be that of the keys packed.

        Raises
        ------
        FileNotFoundError
            Nothing is there.
        FeatureFileError
            The file cannot be used; the message is ``<path>: <reason>``.
        TypeError
            ``rows`` is no array or has another dtype than the keys packed.
        ValueError
            ``rows`` is missing, not needed, or not the keys packed.

        Examples
        --------
        >>> import tempfile
        >>> import fastclip
        >>> captions = fastclip.data.load_sample("coco-captions").features
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/captions.safetensors"
        ...     fastclip.pack(captions).save(path, rows=False)
        ...     keys = fastclip.PackedKeys.load(path, rows=captions)
        >>> keys
        PackedKeys(500 x 512)
        """
        keys, codes, bounds, center = read_packed(Path(path), rows, ENCODING)
        if on_cuda(codes):
            codes = as_core_matrices(codes)
        return cls(keys, codes, bounds, center)


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


def as_panels(codes: torch.Tensor) -> torch.Tensor:
    """Return codes as the CPU reads them: 32 keys side by side, four codes of each in turn."""
    if codes.ndim == 4:
        return codes
    panels, steps = codes.shape[:2]
    fours = codes.view(panels, steps, 4, 4, 8, 4, 4)  # rows / 8, columns / 16, rows, fours
    return fours.permute(0, 1, 3, 5, 2, 4, 6).reshape(panels, steps * 16, _C.panel, 4)


def as_core_matrices(codes: torch.Tensor) -> torch.Tensor:
    """Return codes as CUDA kernels read them: in matrices of 8 keys by 16 codes (screen.cuh)."""
    if codes.ndim == 6:
        return codes
    panels, fours = codes.shape[:2]
    steps = codes.view(panels, fours // 16, 4, 4, 4, 8, 4)  # columns / 16, fours, rows / 8, rows
    return steps.permute(0, 1, 4, 2, 5, 3, 6).reshape(panels, fours // 16, 4, 4, 8, 16)


def encode(rows: torch.Tensor, first: int = 0) -> list[torch.Tensor]:
    """Check rows, numbered from ``first``, and return codes, bounds and center of PackedKeys."""
    count, width = rows.shape
    panels = -(-count // _C.panel)
    if on_cuda(rows):
        return _encode_cuda(rows, first, panels * _C.panel)
    codes = torch.empty(
        (panels, _C.code_width(width) // 4, _C.panel, 4), dtype=torch.uint8, device="cpu"
    )
    bounds = torch.empty((3, panels * _C.panel), dtype=torch.float32, device="cpu")
    center = torch.zeros(width, dtype=torch.float32, device="cpu")
    row = _C.pack(
        matrix(rows),
        codes.data_ptr(),
        bounds.data_ptr(),
        center.data_ptr(),
        torch.get_num_threads(),
    )
    if row >= 0:
        raise not_finite("keys", first + row)
    return [codes, bounds, center]


def _encode_cuda(rows: torch.Tensor, first: int, padded: int) -> list[torch.Tensor]:
    row = find_nonfinite(rows)
    if row >= 0:
        raise not_finite("keys", first + row)
    count, width = rows.shape
    codes = rows.new_empty(
        (padded // _C.panel, _C.code_width(width) // 64, 4, 4, 8, 16), dtype=torch.uint8
    )
    bounds = rows.new_empty((3, padded), dtype=torch.float32)
    # Any vector would do as the centre; a sample's mean is nearly as good as the mean of all.
    sample = rows[torch.arange(min(count, 8192), device=rows.device) * count // min(count, 8192)]
    center = sample.double().mean(0).float() if count else codes.new_zeros(width).float()
    with stream_of(rows) as stream:
        _C.cuda.pack(matrix(rows), center.data_ptr(), codes.data_ptr(), bounds.data_ptr(), stream)
    return [codes, bounds, center]


# From coarse timings: about where packing takes as long as screening saves.
_PACK_FROM_QUERIES = 256
_PACK_FROM_KEYS = 8192
_PACK_KEYS = 1 << 18  # at a time: bounds the memory
_CUDA_PACK_FROM_QUERIES = 4
_CUDA_PACK_PARTS = 4  # of _PACK_KEYS keys each, at a time


def worth_packing(queries: torch.Tensor, keys: torch.Tensor, k: int = 0) -> bool:
    """Whether unpacked keys are better packed on the way, to be screened; ``k`` is of top-k."""
    if on_cuda(keys):
        some = len(queries) >= min(_CUDA_PACK_FROM_QUERIES, _PACK_FROM_QUERIES)
        return some and len(queries) * len(keys) >= _PACK_FROM_QUERIES * _PACK_FROM_KEYS
    many = len(queries) >= _PACK_FROM_QUERIES and len(keys) >= _PACK_FROM_KEYS
    part = min(len(keys), _PACK_KEYS)
    return many and _C.has_screen() and _C.worth_codes(len(queries), part, k)


def packed_from() -> tuple[int, int]:
    """Return how many queries and keys there must be at least to pack keys on the way."""
    return _PACK_FROM_QUERIES, _PACK_FROM_KEYS


def parts_to_pack(keys: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield parts of the keys that are packed one at a time, each with its first row's number."""
    size = _PACK_KEYS * (_CUDA_PACK_PARTS if on_cuda(keys) else 1)
    for begin in range(0, len(keys), size):
        yield begin, keys[begin : begin + size]
