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
    height, width = rle["size"]
    counts = rle["counts"]
    runs = counts if isinstance(counts, list) else _runs(counts)
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"rle: its runs are {sum(runs)} pixels, size {[height, width]} has others")
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return torch.from_numpy(pixels).view(width, height).T.contiguous()


def _runs(counts: object) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for code in counts if isinstance(counts, bytes) else str(counts).encode("ascii"):
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs
