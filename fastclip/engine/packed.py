"""Packed keys: a type of their own, their file, and keys of either type as arguments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from fastclip import _C
from fastclip.engine.checks import (
    Array,
    as_rows,
    check_finite,
    check_same_width,
    with_adjacent_elements,
)
from fastclip.engine.devices import check_device, on_cuda
from fastclip.engine.packed_file import read_packed, write_packed
from fastclip.engine.tensors import check_storage

ENCODING = 1
"""What codes and bounds mean: rotation and its seed, centring, rounding, layout (pack.cpp and
screen.cpp of csrc/cpu). Each change takes the next number, so that older files are refused."""


@dataclass(frozen=True, eq=False)
class PackedKeys:
    """Keys with the codes that searches screen them by. Made by :func:`fastclip.pack`.

    Attributes
    ----------
    rows : Tensor [V, d] float32, float16 or bfloat16
        The keys themselves, all finite; not to be written to.
    codes : Tensor uint8 [P, w / 4, 32, 4], on CUDA devices [P, w / 64, 4, 4, 8, 16]
        Centred, rotated and quantised keys: P = ceil(V / 32) panels of 32; w is d rounded up to a
        multiple of 64. 128 is added to each number, on CUDA devices 256 to negative ones.
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


def as_panels(codes: torch.Tensor) -> torch.Tensor:
    """Return codes as the CPU reads them: 32 keys side by side, four codes of each in turn."""
    if codes.ndim == 4:
        return codes
    panels, steps = codes.shape[:2]
    fours = codes.view(panels, steps, 4, 4, 8, 4, 4)  # rows / 8, columns / 16, rows, fours
    copied = fours.permute(0, 1, 3, 5, 2, 4, 6).reshape(panels, steps * 16, _C.panel, 4)
    return copied.bitwise_xor_(128)  # the CPU's are unsigned: larger by 128


def as_core_matrices(codes: torch.Tensor) -> torch.Tensor:
    """Return codes as CUDA kernels read them: in matrices of 8 keys by 16 codes (code_layout.h)."""
    if codes.ndim == 6:
        return codes
    panels, fours = codes.shape[:2]
    steps = codes.view(panels, fours // 16, 4, 4, 4, 8, 4)  # columns / 16, fours, rows / 8, rows
    copied = steps.permute(0, 1, 4, 2, 5, 3, 6).reshape(panels, fours // 16, 4, 4, 8, 16)
    return copied.bitwise_xor_(128)


def as_keys(
    keys: Array | PackedKeys, name: str = "keys"
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the rows of ``keys`` and, if they are packed, the tensors to screen them by."""
    if isinstance(keys, torch.Tensor):
        return as_rows(name, keys), []
    if isinstance(keys, PackedKeys):
        screen = [keys.codes, keys.bounds, keys.center]
        if not torch.compiler.is_compiling():
            for part in (keys.rows, *screen):
                check_storage(name, part)
        return keys.rows, screen
    return as_rows(name, keys), []


def as_sides(
    queries: Array, keys: Array | PackedKeys
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Return the rows of both, which are as long and on one device, and what to screen keys by."""
    query_rows = as_rows("queries", queries)
    key_rows, screen = as_keys(keys)
    check_same_width(query_rows, key_rows)
    return query_rows, key_rows, screen


def finite_rows(keys: torch.Tensor | PackedKeys) -> torch.Tensor:
    """Return the rows of a chunk, with adjacent elements, once they are known to be finite."""
    rows, screen = as_keys(keys)
    rows = with_adjacent_elements(rows)
    if not screen:
        check_finite("keys", rows)
    return rows
