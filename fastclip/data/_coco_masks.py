"""COCO's masks: polygons, and run-length codes, as text or as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def paint(segmentation: Any, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """A mask [H, W] of bool; raises ValueError, KeyError or TypeError for what is none."""
    if isinstance(segmentation, list):
        return _polygons(segmentation, size)
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"is of {tuple(segmentation['size'])} pixels, its image of {size}")
    runs = segmentation["counts"]
    if isinstance(runs, str):
        from fastclip.ttd.rle import decode_rle

        return decode_rle(segmentation).numpy()
    if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise ValueError(f"its runs are {sum(runs)} pixels, its image is of {size}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size[1], size[0]).T  # column after column


def _polygons(polygons: list[list[float]], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    from PIL import Image, ImageDraw

    image = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(image)
    for corners in polygons:
        if len(corners) < 6 or len(corners) % 2:
            raise ValueError(f"a polygon has {len(corners)} numbers, allowed: pairs, 3 or more")
        # COCO's corners are borders of pixels, Pillow's are middles.
        draw.polygon([x - 0.5 for x in corners], fill=1)
    return np.array(image)
