"""COCO's masks: polygons, and run-length codes, as text or as numbers."""

from typing import Any

import numpy as np

from .rle import decode_rle


def paint(segmentation: Any, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """A mask [H, W] of bool; raises ValueError, KeyError or TypeError for what is none."""
    if isinstance(segmentation, list):
        return _polygons(segmentation, size)
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"is of {tuple(segmentation['size'])} pixels, its image of {size}")
    return decode_rle(segmentation).numpy()


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
