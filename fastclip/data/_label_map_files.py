"""Label maps that lie among images, as data sets for segmentation have them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

PNG_HEADER = 26  # bytes, to the type of its colours
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
    if path.suffix.lower() != ".png" or not path.is_file():
        return False
    with open(path, "rb") as file:
        return is_png_of_numbers(file.read(PNG_HEADER))


def is_png_of_numbers(header: bytes) -> bool:
    """Whether the first `PNG_HEADER` bytes are those of a PNG with a palette, or grey."""
    return header[:8] == b"\x89PNG\r\n\x1a\n" and header[25:26] in (b"\0", b"\3")
