"""Masks as COCO writes them: run lengths down the columns, in printable characters."""

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import torch


class Rle(TypedDict):
    """A mask as in COCO's JSON files."""

    size: list[int]
    """[H, W]."""
    counts: str


def encode_rle(mask: torch.Tensor) -> Rle:
    """Encode a bool tensor [H, W] as pycocotools' ``mask.encode`` does.

    Raises ValueError for another shape, TypeError for another dtype.

    Examples
    --------
    >>> import torch
    >>> from fastclip.data import encode_rle
    >>> encode_rle(torch.tensor([[False, True], [False, True]]))
    {'size': [2, 2], 'counts': '22'}
    """
    if mask.ndim != 2:
        raise ValueError(f"mask: shape [H, W] is needed, got {tuple(mask.shape)}")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: a bool tensor is needed, got {mask.dtype}")
    pixels = mask.T.flatten().numpy(force=True)
    ends = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff(np.concatenate([[0], ends, [pixels.size]]) if pixels.size else [0, 0]).tolist()
    if pixels.size and pixels[0]:
        runs.insert(0, 0)  # the first run is of False
    written = []
    for i, run in enumerate(runs):
        # From the fourth on, the difference to the run two before, in groups of five bits, low ones
        # first; bit 6 says that more follow.
        rest = run - runs[i - 2] if i > 2 else run
        while True:
            bits, rest = rest & 31, rest >> 5
            last = rest == (-1 if bits & 16 else 0)
            written.append(chr(48 + (bits if last else bits | 32)))
            if last:
                break
    return {"size": list(mask.shape), "counts": "".join(written)}


def decode_rle(rle: Mapping[str, Any]) -> torch.Tensor:
    """Return the bool tensor [H, W] of what `encode_rle` or pycocotools wrote.

    ``counts`` may also be a list of numbers, as of the crowds in COCO's own files. Raises
    ValueError where the runs do not fill the mask.
    """
    size, counts = rle["size"], rle["counts"]
    if len(size) != 2 or not all(type(n) is int and n >= 0 for n in size):
        raise ValueError(f"rle: size is {size!r:.60}, allowed: [H, W]")
    runs = counts if isinstance(counts, list) else _runs(counts)
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError(
            f"rle: its runs {str(runs)[:60]} do not fill size {list(size)}, allowed: whole numbers "
            f"with the sum {size[0] * size[1]}"
        )
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return torch.from_numpy(pixels).view(size[1], size[0]).T.contiguous()


def _runs(counts: object) -> list[int]:
    if not isinstance(counts, (str, bytes)):
        raise ValueError(f"rle: counts is {counts!r:.60}, allowed: text, or a list of numbers")
    runs: list[int] = []
    value = shift = 0
    for code in counts if isinstance(counts, bytes) else counts.encode("utf-8", "replace"):
        bits = code - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"rle: counts is {counts!r:.60}, allowed: what pycocotools writes")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError(f"rle: counts is {counts!r:.60}, which ends within a number")
    return runs
