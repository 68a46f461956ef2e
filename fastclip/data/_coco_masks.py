"""COCO's masks: polygons, and run-length codes, as text or as numbers."""

import itertools
from typing import Any

import numpy as np

from .rle import decode_rle

# pycocotools keeps five points for each pixel of an outline in memory, and coordinates in 32 bits.
_LONGEST = 1_000_000


def paint(segmentation: Any, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """A mask [H, W] of bool; raises ValueError, KeyError or TypeError for what is none."""
    if isinstance(segmentation, list):
        return _polygons(segmentation, size)
    if not isinstance(segmentation, dict):
        raise TypeError(f"is {segmentation!r:.60}, allowed: a list of polygons, or run lengths")
    found = segmentation["size"]
    if not isinstance(found, list) or tuple(found) != size:
        raise ValueError(f"is of {found!r:.60} pixels (H, W), its image of {list(size)}")
    return decode_rle(segmentation).numpy()


def _polygons(polygons: list[Any], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    from pycocotools import mask

    if not polygons:
        return np.zeros(size, bool)
    for corners in polygons:
        _check(corners)
    outlines = mask.frPyObjects([[float(x) for x in corners] for corners in polygons], *size)
    return decode_rle({"size": size, "counts": mask.merge(outlines)["counts"]}).numpy()


def _check(corners: Any) -> None:
    if not isinstance(corners, list) or len(corners) < 6 or len(corners) % 2:
        what = f"{len(corners)} numbers" if isinstance(corners, list) else repr(corners)[:60]
        raise ValueError(f"a polygon has {what}, allowed: pairs of numbers, 3 or more")
    for x in corners:
        if type(x) not in (int, float) or not abs(x) <= _LONGEST:
            raise ValueError(
                f"a polygon has the coordinate {x!r:.60}, allowed: finite numbers, "
                f"{_LONGEST:,} at most"
            )
    points = list(zip(corners[::2], corners[1::2], strict=True))
    edges = itertools.pairwise([points[-1], *points])
    length = sum(max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in edges)
    if length > _LONGEST:
        raise ValueError(f"a polygon has an outline of {length:.3g} pixels, allowed: {_LONGEST:,}")
