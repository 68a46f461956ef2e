"""Label maps that lie among images, as data sets for segmentation have them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

_LOOKED_AT = 100  # pairs of files: label maps come in numbers


def refuse_label_maps(folder: Path, names: Sequence[str]) -> None:
    """Raise ValueError where PNG files of numbers lie beside coloured images of the same names.

    Such as ``SegmentationClass/1.png`` and ``JPEGImages/1.jpg``, or ``1_mask.png`` and ``1.png``.
    """
    by_key: dict[str, list[str]] = {}
    for name in names:
        by_key.setdefault(_key(name), []).append(name)
    several = [group for group in by_key.values() if len(group) > 1]
    for group in several[:: max(1, len(several) // _LOOKED_AT)]:
        maps = [name for name in group if _holds_numbers(folder / name)]
        images = [name for name in group if name not in maps]
        if maps and images:
            raise ValueError(
                f"{folder}: {maps[0]} looks like a label map of {images[0]}, allowed: a folder of "
                f"images alone, or a pattern that says which files are meant, such as "
                f"'{folder}/**/*{Path(images[0]).suffix}'"
            )


def _key(name: str) -> str:
    stem = os.path.splitext(os.path.basename(name))[0]
    return re.sub(r"[_-](mask|label|seg|gt)[a-z]*$", "", stem, flags=re.IGNORECASE)


def _holds_numbers(path: Path) -> bool:
    """Whether a file is a PNG with a palette, or grey."""
    from PIL import Image

    if path.suffix.lower() != ".png" or not path.is_file():
        return False
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.mode in ("1", "L", "P", "I", "I;16")
    except Exception:  # as many as there are ways to damage a file: whoever reads it will say
        return False
